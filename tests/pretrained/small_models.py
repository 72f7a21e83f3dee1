"""What several tests of published models need of ours."""

from small_gpt import tiny

from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.run import RunFolder

SEVEN = CharTokenizer("\n !abc—")


def make_run(path):
    """A run with one checkpoint; returns its model."""
    run = RunFolder.create(
        path, tiny("modern-tiny"), TrainConfig(1, 1), SEVEN, dtype="float32", start=0, title="", shares=1, levels={}
    )
    model = run.initial_model("cpu")
    model.flat.data += 0.1
    run.write_checkpoint({"model": {name: p.data for name, p in model.flat.items()}}, 1)
    return model
