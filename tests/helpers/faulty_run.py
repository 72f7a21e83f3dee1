"""A run of which one rank fails.

python tests/helpers/faulty_run.py FAULT PLACE RANK ARGUMENTS of examples/pretrain_shakespeare.py
"""

import sys

if __name__ == "__main__":
    sys.modules |= {"numba": None, "cupy": None}  # not wanted for float64, and slow to import

import itertools
import os
import pkgutil
import signal
import threading
import time

import pytest
from small_run import pretrain

from tinygrad_lm.distributed import watch
from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.distributed.launcher import own_rank
from tinygrad_lm.train.run import RunFolder


def fail():
    raise RuntimeError("planted")


def send(number):
    return lambda: os.kill(os.getpid(), number)


FAULTS = {
    "raise": fail,
    "sys.exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(3),
    "SIGKILL": send(signal.SIGKILL),
    "SIGTERM": send(signal.SIGTERM),
    "SIGSTOP": send(signal.SIGSTOP),
    "hang": threading.Event().wait,
    "other call": lambda: world().meet(),
    "sleep": lambda: time.sleep(3 * watch.time_limit()),
}
# The function before which it happens, and in which of its calls. Runs are resumed at a checkpoint.
PLACES = {
    "connect": ("tinygrad_lm.distributed.job.mpi_world", 1),
    "start": ("tinygrad_lm.train.command.explained", 1),
    "forward": ("tinygrad_lm.train.shares.backward", 6),  # four calls a step
    "exchange": ("tinygrad_lm.distributed.communicator.Job.add_up", 2),
    "evaluation": ("tinygrad_lm.train.evaluate.next_token", 1),
    "save": ("tinygrad_lm.train.trainer.check_same", 1),
    "write": ("tinygrad_lm.train.checkpoint.write", 2),  # of a checkpoint's three files
}


def plant(patch, act, place, number, rank):
    """Let a rank act before this call of a function."""
    function, calls = pkgutil.resolve_name(place), itertools.count(1)

    def acting(*arguments, **options):
        if own_rank() == rank and next(calls) == number:
            act()
        return function(*arguments, **options)

    patch.setattr(place, acting)


if __name__ == "__main__":
    fault, place, rank, *arguments = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw", lambda self: None)
        if fault == "hang":
            patch.setattr(watch, "WORK", 2)  # limits; with ten the test would take as long
        plant(patch, FAULTS[fault], *PLACES[place], int(rank))
        sys.exit(pretrain(*arguments))
