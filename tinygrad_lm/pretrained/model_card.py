"""The README.md of an exported model: what it is, what it learned from, how well, and how to use it.

It names files without their folders, since a card is published, and says of a licence that it is unknown.
"""

from contextlib import suppress
from pathlib import Path

from tinygrad_lm.errors import CheckpointError, TokenError
from tinygrad_lm.pretrained.fields import read_json
from tinygrad_lm.train.run import RunFolder

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
license: unknown
tags:
- tinygrad_lm
---

# {title}

A language model of {size:,} parameters, exported by tinygrad_lm.

| | |
|---|---|
{shape}

## Training

{training}

## How to use it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this one
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder{trust})
{ids}
print(tokenizer.decode(model.generate(ids, max_new_tokens=100, do_sample=True)[0]))
```

With tinygrad_lm: `tinygrad-lm {command} FOLDER`.{note}

## Licence and limits

The licence is unknown: nothing here says under which terms the training data or the weights may be used. Find that out
before you publish them, and write it here and into `license` above. The model was not examined for bias, for what it
makes up, or for what it repeats word for word from its training data.
"""
PROMPTED = 'ids = tokenizer({prompt!r}, return_tensors="pt").input_ids'
ASKED = """\
asked = [{"role": "user", "content": "Hello!"}]
options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
ids = tokenizer.apply_chat_template(asked, **options).input_ids"""
BOUNDED = """ The logits are bounded by a tanh, which is in
`modeling_tinygrad_lm.py`: read that file before you trust it. Without `trust_remote_code=True` the same weights rank
the tokens in the same order, with other probabilities."""


def model_card(model, tokenizer, description, chats, source=None):
    """The text of the card.

    description: the content of the exported config.json; chats: whether there is a chat template; source: the folder of
    the run that is exported, or of another model, or its name
    """
    config, run, bounded = model.config, run_at(source), "auto_map" in description
    name = "A language model" if source is None else Path(source).name
    shape = {
        "architecture": description["architectures"][0],
        "layers × channels": f"{config.n_layer} × {config.n_embd}",
        "heads of queries, of keys": f"{config.n_head}, {config.kv_heads}",
        "context": f"{config.block_size:,} tokens",
        "vocabulary": f"{tokenizer.vocab_size:,} tokens ({tokenizer.name})",
        "weights": description["dtype"],
    }
    known = list(facts(run)) if run else ["exported from a model whose training is unknown to this program: " + name]
    return CARD.format(
        title=(run and run.config.get("title")) or name,
        size=model.flat.data.size,
        shape="\n".join(f"| {name} | {value} |" for name, value in shape.items()),
        training="\n".join(f"- {fact}" for fact in known),
        trust=", trust_remote_code=True" * bounded,
        ids=ASKED if chats else PROMPTED.format(prompt=prompt_for(tokenizer)),
        command="chat" if chats else "generate",
        note=BOUNDED * bounded,
    )


def run_at(source):
    """The RunFolder that a model was loaded from, or None."""
    path = Path(str(source), "config.json")
    return RunFolder(source) if path.is_file() and "model_type" not in read_json(path) else None


def facts(run):
    """Yield what a run knows of the weights of its best checkpoint, as sentences without a full stop."""
    config, train = run.config, run.train_config
    manifest, _ = run.read_checkpoint("best")
    if base := config.get("base"):
        yield f"began with the weights of {Path(base).name}"
    yield from data_facts(config.get("data", {}))
    yield f"{manifest['step']:,} steps of {train.batch_size * train.accumulate:,} sequences, seed {train.seed}"
    measure, unit = config.get("measure", (run.measure, run.unit))
    if manifest.get("validation") is not None:
        yield f"{measure} of these weights: {manifest['validation']:.4f} {unit}"
    with suppress(CheckpointError):  # damage to the log costs no model
        for record in run.log.records:
            if "whole" in record and record["step"] == manifest["step"]:
                yield f"the same on the whole validation split: {record['whole']:.4f}"
    for label, level in config.get("levels", {}).items():
        yield f"for comparison, {label}: {level:.4f}"


def data_facts(data):
    """Yield what config.json says of the training data."""
    if "weights" in data:
        yield "data: " + ", ".join(f"{name} ({weight} of the tokens)" for name, weight in data["weights"].items())
    elif "path" in data:
        yield f"data: {'tiny Shakespeare' if data['path'] is None else Path(data['path']).name}"
    for name in ("sha256", "seal"):
        if name in data:
            yield f"{name} of the data: `{data[name]}`"


def prompt_for(tokenizer):
    """A prompt that the vocabulary can express."""
    for text in ("Once upon a time", "\n"):
        with suppress(TokenError):
            tokenizer.encode(text)
            return text
    return tokenizer.decode([0])
