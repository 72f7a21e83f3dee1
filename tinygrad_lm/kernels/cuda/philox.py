"""What the kernels that draw random numbers are given. See philox.cuh."""

import math

import numpy as np

from tinygrad_lm.backend import philox
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.kernels.cuda.compile import f4


def arguments(xp, p, seed, stream, *counter):
    """(counter, key0, key1, limit, 1 / (1 − p)), to keep entries with probability 1 − p.

    `counter` is up to three whole numbers, or one array of three uint64 on the device: a captured step reads there
    which step it is.
    """
    if len(counter) == 1 and isinstance(counter[0], xp.ndarray):
        key, words = philox(seed, stream)[0], counter[0]
        if words.shape != (3,) or words.dtype != np.uint64:
            raise ShapeError(f"a counter on the device has shape (3,) of uint64, found {words.shape} of {words.dtype}")
    else:
        key, words = philox(seed, stream, *counter)
        words = xp.asarray(words[1:])
    return words, *key, np.uint32(math.ceil(float(f4(p)) * 2**24)), f4(1 / (1 - p))
