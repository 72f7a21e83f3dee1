"""A model behind a local web page and OpenAI's interface: `python -m tinygrad_lm.serve MODEL`."""
