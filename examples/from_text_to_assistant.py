"""The whole story in one command: a model learns to read, then to answer, then to answer right.

python examples/from_text_to_assistant.py                    # offline; a quarter of an hour on two cores of a laptop
python examples/from_text_to_assistant.py                    # again: continues where it was stopped
python examples/from_text_to_assistant.py --out FOLDER --minutes 5     # a worse assistant

1. pretraining     next tokens of exercises, of sums, about an island that does not exist, and of a funny little play
2. supervised      conversations to imitate: invented instructions, some of them questions about the island
3. reinforcement   the model's own answers to such instructions, rewarded where a verifier finds them right
and report.md: the same held-out prompts answered after each. The programs of the three stages are pretrain.py,
finetune_chat.py and reinforce.py; each stage is a run of its own, which they can continue.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import finetune_chat
import pretrain
import reinforce

from tinygrad_lm import files
from tinygrad_lm.commands import spelled
from tinygrad_lm.curate.prepare import prepare
from tinygrad_lm.data.synthetic.instructions import instructions
from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.locks import FolderLock
from tinygrad_lm.models.config import MODERN, PRESETS
from tinygrad_lm.posttrain.data.prompts import load_prompts
from tinygrad_lm.posttrain.report_card import report_card
from tinygrad_lm.programs import program
from tinygrad_lm.train.checkpoint import order, verify
from tinygrad_lm.train.command import resumed
from tinygrad_lm.train.config import RECIPES
from tinygrad_lm.train.run import RunFolder, check_free

MINUTES = 15
DOCUMENTS = 10_000  # of each source that pretraining reads; four times as many exercises, which are short
LIMIT = 24  # tokens an answer
SHAPE = replace(MODERN, block_size=128, n_layer=3, n_head=4, n_embd=96)  # a third of a million weights
GENERAL = RECIPES["modern-tiny"] | {"eval_first": True}
GENTLE = {"lr": 2e-3, "muon_lr": 0.01, "embedding_lr": 0.01}  # the model knows much by then
REWARDED = {"lr": 1e-4, "accumulate": 4}  # many answers, for most groups are all right and say nothing
MIXTURE = """\
tokenizer = "bytes.tiktoken"
[[source]]
name = "exercises"
weight = "3/8"
files = ["exercises.jsonl"]
[[source]]
name = "sums"
weight = "3/8"
synthetic = {{ kind = "additions", documents = {documents} }}
[[source]]
name = "island"
weight = "1/8"
synthetic = {{ kind = "island", documents = {documents} }}
[[source]]
name = "play"
weight = "1/8"
synthetic = {{ kind = "play", documents = {documents} }}
"""


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/assistant", metavar="FOLDER", help="[runs/assistant]")
    parser.add_argument("--minutes", type=float, help=f"about how long it may take on two cores [{MINUTES}]")
    args = parser.parse_args(arguments)
    folder = Path(args.out)
    plan = stages(folder, open_story(folder, args.minutes))
    with FolderLock(folder):
        for name, stage in plan.items():
            print(f"\n---- {name}")
            if status := train(folder / name, stage):
                return status
        held_out = load_prompts("instructions")[1]
        card = report_card(folder, list(plan), held_out, LIMIT)
        files.replace(folder / "report.md", card.encode())
    print(f"\n{card}\nin {folder}: report.md, and a run for each stage")
    print(f"talk to it:  {spelled('examples/chat.py')} {folder / 'reinforcement'}")
    return 0


class Stage(NamedTuple):
    start: Callable  # begins a run: of the program's settings, and out, its folder
    go_on: Callable  # trains a run that was stopped
    kind: type  # of its folder
    settings: dict


def stages(folder, share):
    """{name: Stage}. share: of the usual number of steps"""
    steps = lambda n: {"steps": max(2, round(n * share))}
    PRESETS["assistant"], RECIPES["assistant"] = SHAPE, GENERAL
    pretrained, supervised, asked = folder / "pretraining", folder / "supervised", "instructions"
    return {
        "pretraining": Stage(
            lambda **settings: pretrain.start(write_text(folder, share), **settings),
            pretrain.train,
            RunFolder,
            steps(2000) | {"preset": "assistant", "validation_tokens": 16_384},
        ),
        "supervised": Stage(
            finetune_chat.start,
            finetune_chat.train_and_examine,
            finetune_chat.SupervisedRun,
            GENERAL | GENTLE | steps(1000) | {"model": str(pretrained), "data": asked, "packed": True, "accumulate": 1},
        ),
        "reinforcement": Stage(
            reinforce.start,
            reinforce.train_and_report,
            reinforce.PolicyRun,
            REWARDED | steps(40) | {"model": str(supervised), "data": asked, "limit": LIMIT},
        ),
    }


def train(path, stage):
    """Train a stage, or what is left of it. Returns the exit status."""
    done = progress(path)
    if done is None:
        shutil.rmtree(path, ignore_errors=True)  # what was killed before its first checkpoint has nothing to keep
        return stage.start(**stage.settings, out=path)
    if done < stage.settings["steps"]:
        return stage.go_on(*resumed(stage.kind, resume=path))
    print(f"{path} is finished")
    return 0


def progress(path):
    """How many steps a run has made, by its newest whole checkpoint; None if it has none."""
    for checkpoint in order(path / "checkpoints", "newest"):
        try:
            return verify(checkpoint)["step"]
        except CheckpointError:
            continue
    return None


def write_text(folder, share):
    """The prepared mixture for pretraining: bytes as tokens, and an end of text.

    The exercises are instructions and their answers as plain text; of what is held out there are none.
    """
    text, documents = folder / "text", max(100, round(DOCUMENTS * share))
    text.mkdir(exist_ok=True)
    asked = (" ".join(message["content"] for message in one.messages) for one in instructions(4 * documents, seed=1))
    lines = "".join(json.dumps({"text": line}) + "\n" for line in asked)
    if not (text / "bytes.tiktoken").exists():
        BPETokenizer(ALPHABET).save(text / "bytes.tiktoken")
    for name, content in (("exercises.jsonl", lines), ("mixture.toml", MIXTURE.format(documents=documents))):
        if not (text / name).exists():  # of the same content but a later time it would be another file
            files.replace(text / name, content.encode())
    return prepare(text / "mixture.toml", progress=True)


def open_story(folder, minutes):
    """Make the folder, or find it as it was left. Returns the share of the usual number of steps."""
    path = folder / "story.json"
    if path.exists():
        before = json.loads(path.read_text())["minutes"]
        if minutes not in (None, before):
            raise ConfigError(f"{folder} was begun with --minutes {before:g}; leave it out, or give another --out")
        return before / MINUTES
    minutes = MINUTES if minutes is None else minutes
    if not 0 < minutes < float("inf"):
        raise ConfigError(f"--minutes must be a positive number, found {minutes}")
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.replace(path, json.dumps({"minutes": minutes}).encode())
    return minutes / MINUTES


if __name__ == "__main__":
    sys.exit(main())
