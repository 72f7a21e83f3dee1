"""Small runs on the ranks of a real MPI.

As a program, which a launcher starts: python tests/helpers/small_job.py COURSE FOLDER makes several runs one after
another, since a launch takes longer than a run. What came of each on each rank is FOLDER/COURSE/NAME.RANK.json.
"""

import sys

if __name__ == "__main__":
    sys.modules |= {"numba": None, "cupy": None}  # not wanted for float64, and slow to import

import io
import json
import os
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_chats import make_base
from small_run import TEXT, after_update, example, finetune, pretrain, status

from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.distributed import communicator, job
from tinygrad_lm.distributed.launcher import find_launcher
from tinygrad_lm.train import command
from tinygrad_lm.train.run import RunFolder

SIZE = ["--dtype", "float64", "--shares", 4]
PLAN = ["--preset", "tiny", *SIZE, "--steps", 8, "--eval-every", 3]
FINETUNE = [*SIZE, "--batch-size", 4, "--accumulate", 2, "--steps", 2, "--eval-every", 2, "--lr", 0.01]
REINFORCE = ["--dtype", "float64", "--shares", 4, "--batch-size", 16, "--limit", 2, "--group", 8, "--lr", 0.01]
REINFORCE += ["--steps", 2, "--eval-every", 2]
ENOUGH = 300  # seconds: a job that is still there hangs


def launch(n, program, *arguments, ours=False, **variables):
    """Run a program of this folder as n processes, by MPI's launcher or by ours. Returns a CompletedProcess, whose
    output is text."""
    launcher, quirks = find_launcher()
    here = Path(__file__).parent
    environment = os.environ | quirks | variables | {"PYTHONPATH": str(here.parents[1])}
    start = [sys.executable, "-m", "tinygrad_lm.distributed", "-n", n] if ours else [launcher, "-n", n, sys.executable]
    words = [*start, here / program, *arguments]
    return subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True, timeout=ENOUGH)


def prepare(folder):
    """What runs begin with: a text, a chat model, and prompts for it, which any answer in time satisfies."""
    (folder / "text").write_text(TEXT)
    make_base(folder / "base", CharTokenizer(" ab"))
    prompts = [{"prompt": "".join(two), "answer": "(a|b)*", "verifier": "pattern"} for two in product("ab", "ab")]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, 3 * prompts)))


class Course:
    """Runs on this rank, in FOLDER/COURSE."""

    def __init__(self, name, folder):
        comm = job.mpi_world()
        self.rank, self.all, self.folder = comm.rank if comm else 0, Path(folder), Path(folder, name)
        self.folder.mkdir(exist_ok=True)

    def run(self, name, program, *arguments, rank=None, step=None, act=None):
        """Run a program; act(): on that rank when this step's update has been made."""
        steps, out, err = [], io.StringIO(), io.StringIO()

        def made(number):
            steps.append(number)
            if (self.rank, number) == (rank, step):
                act()

        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(RunFolder, "draw", lambda self: None)
            patch.setattr(job, "GRACE", ENOUGH)  # the machine may be busy; here nobody waits in vain
            after_update(patch, made)
            ended = program(*arguments)
        told = {"status": ended, "out": out.getvalue(), "err": err.getvalue(), "steps": steps}
        (self.folder / f"{name}.{self.rank}.json").write_text(json.dumps(told))

    def begin(self, name, *options, **at):
        """A new pretraining run."""
        self.run(name, pretrain, *PLAN, "--data", self.all / "text", "--out", self.folder / name, *options, **at)

    def go_on(self, name, *options, run=None, **at):
        """A run that one process has begun [of this name]."""
        self.run(name, pretrain, "--resume", self.all / "one" / (run or name), *options, **at)

    def everything(self):
        """Pretraining, fine-tuning, reinforcement learning, and pretraining by the clock."""
        self.begin("pretrain")
        data = ["--model", self.all / "one" / "pretrain", "--data", self.all / "text"]
        self.run("finetune", finetune, *data, *FINETUNE, "--out", self.folder / "finetune")
        data = [self.all / "base", "--data", self.all / "prompts.jsonl"]
        reinforce = lambda *words: status(example("reinforce").main, *words)
        self.run("reinforce", reinforce, *data, *REINFORCE, "--out", self.folder / "reinforce")

    def by_the_clock(self):
        """--minutes without --out, where each rank has its own clock and its own date; rank 1's runs twice as fast."""
        ticks = (1000 * self.rank + 0.06 * (1 + self.rank) * i for i in count())
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(communicator, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
            patch.setattr(command, "time", SimpleNamespace(strftime=lambda form: f"at/{self.rank}"))
            data = ["--data", self.all / "text", "--minutes", 0.06]
            self.run("minutes", pretrain, "--preset", "tiny", *SIZE, *data)


def asked(number):
    """Ask this process to stop."""
    return lambda: os.kill(os.getpid(), number)


def one(course):
    """What is expected, and the beginning of a run that goes on with other numbers of ranks."""
    course.everything()
    course.begin("chain", rank=0, step=2, act=asked(signal.SIGTERM))


def two(course):
    """The same, and what is refused. Before, the caller has locked the run `locked`."""
    course.everything()
    course.by_the_clock()
    course.go_on("chain", rank=1, step=4, act=asked(signal.SIGTERM))
    course.go_on("locked", "--steps", 9)
    course.go_on("finished", run="finetune")
    for name, options in {
        "help": ["--help"],
        "option": ["--colour", "red"],
        "taken": ["--out", course.folder / "pretrain"],
        "unwritable": [*PLAN, "--data", course.all / "text", "--out", "/dev/null/run"],
    }.items():
        course.run(name, pretrain, *options)


def four(course):
    course.begin("shares", "--shares", 2)
    course.go_on("chain", rank=2, step=6, act=asked(signal.SIGINT))
    course.begin("pretrain")


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    {"two": two, "four": four}[name](Course(name, folder))
