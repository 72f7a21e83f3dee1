"""Faults that a captured step may have, to be planted: {what: (owner, attribute, value)}.

The first two were in the tree, and no test on emulated arrays noticed them.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import count

import numpy as np
from cupy_without_a_driver import cupy

from tinygrad_lm import threads
from tinygrad_lm.kernels.cuda import adamw as cuda_adamw
from tinygrad_lm.train import device_steps

rotary = import_module("tinygrad_lm.ops.rotary")  # under its name the package has the operation


@contextmanager
def with_a_thread(n):
    """`workers` with a thread of its own for one, which has a current stream of its own, too."""
    with ThreadPoolExecutor(n) as threads._pool:
        yield
    threads._pool = None


def loss_and(more):
    """The gradients of a batch, and something that is done to the loss."""

    def backward(*arguments, backward=device_steps.backward):
        loss, count = backward(*arguments)
        return more(loss), count

    return device_steps, "backward", backward


steps = count()
FAULTS = {
    "a thread": (threads, "workers", with_a_thread),
    "short-lived tables": (rotary, "tables", functools.lru_cache(maxsize=4)(rotary.tables.__wrapped__)),
    "a loss that is read": loss_and(lambda loss: loss + 0 * loss.item()),
    "an array of the host": loss_and(lambda loss: loss + cupy.asarray(np.zeros(2, "f4"))[0]),
    "an array that is kept": loss_and(lambda loss, kept=[]: kept.append(loss) or sum(kept)),
    "a number of the step": loss_and(lambda loss: loss * float(next(steps))),
    "too many threads": (cuda_adamw, "THREADS", 1056),
}
