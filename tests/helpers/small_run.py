"""The command lines of examples/, on a model and a text small enough for a test.

As a program: python tests/helpers/small_run.py ARGUMENTS is examples/pretrain_shakespeare.py with a preset "tiny".
"""

import importlib.util
import json
import random
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tinygrad_lm.files import sealed_json, unsealed
from tinygrad_lm.models.config import PRESETS, GPTConfig
from tinygrad_lm.train.config import RECIPES
from tinygrad_lm.train.log import Log
from tinygrad_lm.train.run import RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = ["the cat ", "sat ", "on the ", "mat.\n", "a dog ", "ate ", "his hat.\n"]
TEXT = "".join(random.Random(0).choices(WORDS, k=600))

# Everything that a step can draw upon: Muon and two AdamWs, dropout, several batches a step.
MODEL = {"n_layer": 1, "n_head": 2, "n_embd": 16, "norm": "rms", "position": "rotary", "qk_norm": True, "tied": False}
RECIPE = {"lr": 0.01, "muon_lr": 0.02, "embedding_lr": 0.03, "batch_size": 4, "accumulate": 2, "warmup": 3}


@contextmanager
def tiny_preset(pictures=False, **changes):
    """Within the block there is a preset "tiny", samples are short, and no pictures drawn; changes: to its recipe."""
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            without_pictures(patch)
        patch.setattr(RunFolder, "sample", lambda self, model, n, sample=RunFolder.sample: sample(self, model, 4))
        patch.setitem(PRESETS, "tiny", GPTConfig(20, 8, dropout=0.1, **MODEL))
        patch.setitem(RECIPES, "tiny", RECIPE | changes)
        patch.setattr("tinygrad_lm.kernels.choice.gain", lambda dtype: 0.0)  # by a clock: runs would differ in dtype
        yield


def without_pictures(patch):
    """No run draws its curves: that takes longer than the steps of a small one."""
    for place in (
        "train.run.draw_losses",
        "posttrain.policy.policy_run.draw_policy",
        "posttrain.policy.pictures.draw_preferences",
    ):
        patch.setattr(f"tinygrad_lm.{place}", lambda *_: None)


def example(name):
    """A program of examples/ as a new module; the programs find each other, as in a process of their own."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pretrain(*arguments, **options):
    """Run pretrain_shakespeare.py; returns its exit status, also if argparse ends it. options: tiny_preset's"""
    with tiny_preset(**options):
        return status(example("pretrain_shakespeare").main, *arguments)


def finetune(*arguments, pictures=False):
    """Run finetune_shakespeare.py; returns its exit status."""
    with tiny_preset(pictures):
        return status(example("finetune_shakespeare").main, *arguments)


def teach(*arguments):
    """Run finetune_chat.py, without its pictures; returns its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        return status(example("finetune_chat").main, *arguments)


def after_update(patch, act):
    """`act(step)` when the update number `step` of a run, counted from 1, has been made, before it is logged."""
    write = Log.write

    def watched(self, **record):
        if "norm" in record:
            act(record["step"])
        write(self, **record)

    patch.setattr(Log, "write", watched)


def write(*arguments):
    """Run generate.py; returns its exit status."""
    return status(example("generate").main, *arguments)


def status(main, *arguments):
    try:
        return main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


@contextmanager
def editing(run):
    """The content of a run's config.json, which may be changed within the block and is sealed again."""
    path = Path(run, "config.json")
    yield (config := unsealed(json.loads(path.read_bytes())))
    path.write_bytes(sealed_json(config))


def results(run):
    """What must not depend on interruptions: the last checkpoint's bytes, and the log without its clock."""
    last = max((run / "checkpoints").iterdir())
    weights = {file.name: file.read_bytes() for file in last.glob("*.safetensors")}
    return last.name, weights, re.sub(r', "(seconds|elapsed)": [^,}]*', "", (run / "log.jsonl").read_text())


if __name__ == "__main__":
    sys.exit(pretrain(*sys.argv[1:]))
