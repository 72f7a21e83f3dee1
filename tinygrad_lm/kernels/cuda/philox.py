"""Arguments of the kernels that draw random numbers. See philox.cuh."""

import math

import numpy as np

from tinygrad_lm.backend import philox_key
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.kernels.cuda.compile import f4, u4


def arguments(xp, p, seed, stream, *counter):
    """(counter, key0, key1, limit), to keep entries with probability 1 − p.

    counter: (step, row), or one array of these two as uint64 on the device, from which a captured step reads them.
    """
    if len(counter) == 1 and isinstance(counter[0], xp.ndarray):
        words = counter[0]
        if words.shape != (2,) or words.dtype != np.uint64:
            raise ShapeError(f"a counter on the device has shape (2,) of uint64, found {words.shape} of {words.dtype}")
    else:
        step, row = counter
        words = xp.asarray(np.array([step, row], np.uint64))
    return words, *philox_key(seed, stream), u4(math.ceil(float(f4(p)) * 2**24))
