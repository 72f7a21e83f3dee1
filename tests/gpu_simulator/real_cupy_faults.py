"""Faults that a captured step may have, to be planted: {what: (owner, attribute, value)}.

The first two were in the tree, and no test on emulated arrays noticed them.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import count

import numpy as np
from cupy_without_a_driver import cupy

from tinygrad_lm.distributed import nccl
from tinygrad_lm.kernels.cuda import adamw as cuda_adamw
from tinygrad_lm.optim import muon
from tinygrad_lm.train import device_steps

rotary = import_module("tinygrad_lm.ops.rotary")  # under its name the package has the operation


def on_a_thread(_, matrices, lr, momentum):
    """Muon's updates on another thread, whose current stream is another, too."""
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda matrix: muon.update(*matrix, lr, momentum), matrices))


def loss_and(more):
    """The gradients of a batch, and something that is done to the loss."""

    def backward(*arguments, backward=device_steps.backward):
        loss, count = backward(*arguments)
        return more(loss), count

    return device_steps, "backward", backward


steps = count()
FAULTS = {
    "a thread": (muon.update_all, "definition", on_a_thread),
    "short-lived tables": (rotary, "tables", functools.lru_cache(maxsize=4)(rotary.tables.__wrapped__)),
    "a loss that is read": loss_and(lambda loss: loss + 0 * loss.item()),
    "an array of the host": loss_and(lambda loss: loss + cupy.asarray(np.zeros(2, "f4"))[0]),
    "an array that is kept": loss_and(lambda loss, kept=[]: kept.append(loss) or sum(kept)),
    "a number of the step": loss_and(lambda loss: loss * float(next(steps))),
    "another stream": (nccl, "current_stream", lambda x: cupy.cuda.Stream.null.ptr),  # CuPy's default one
    "too many threads": (cuda_adamw, "THREADS", 1056),
}
