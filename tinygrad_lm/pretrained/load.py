"""Open a trained model, wherever it is."""

from tinygrad_lm.train.run import Run


def load(where, device="cpu"):
    """The model and the tokenizer of a run's folder."""
    run = Run(where)
    return run.trained(device), run.tokenizer
