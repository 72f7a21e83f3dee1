"""Sums of two long arrays of one shape, by all cores that are free."""

import numpy as np

from tinygrad_lm.engine import graph
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.elementwise import add

LONG = 2**14  # from so many numbers on it is faster than NumPy's sum


@graph.add.on("cpu", "float32")
def total(a, b, out=None):
    """An implementation of `add` of engine/graph.py: the sum of two gradients."""
    if a.size < LONG or out is not None or callable(b):
        return NotImplemented
    if a.shape != b.shape or a.dtype != b.dtype or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return NotImplemented
    y = np.empty_like(a)
    add_all(y.size, LEAST, a.reshape(-1), b.reshape(-1), y.reshape(-1))
    return y


@add.on("cpu", "float32")
def add_on_all_cores(a, b):
    """An implementation of `add` of ops/elementwise.py."""
    y = total(a, b)
    return NotImplemented if y is NotImplemented else (y, lambda dy: (dy, dy))


@shared
def add_all(start, stop, a, b, y):
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        y[i] = a[i] + b[i]
