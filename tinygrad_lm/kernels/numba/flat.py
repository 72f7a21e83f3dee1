"""Passes over long flat arrays: the gradient's norm, and its scaling."""

import numpy as np

from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.together import LEAST, grain_of, shared
from tinygrad_lm.optim.clipping import scale, sum_of_squares


@sum_of_squares.on("cpu", "float32")
def sum_of_squares_of_parts(x):
    """The definition of optim/clipping.py; the parts' sums are added in float64."""
    grain = grain_of(x.size, LEAST)
    sums = np.zeros(-(-x.size // grain))
    add_squares(x.size, LEAST, x, sums, grain)
    total = sums.sum()
    return total if 0 < total < np.inf else NotImplemented  # the definition's squares are in float64


@scale.on("cpu", "float32")
def scale_in_parts(x, factor):
    """The definition of optim/clipping.py."""
    multiply(x.size, LEAST, x, f4(factor))


@shared
def add_squares(start, stop, x, sums, each):
    """Each sum of some hundred is in float32, all others in float64."""
    part, total = x[start:stop], 0.0
    for first in range(0, part.size, 256):
        some, square = part[first : first + 256], f4(0)
        for i in range(some.size):
            square += some[i] * some[i]
        total += square
    sums[start // each] = total


@shared
def multiply(start, stop, x, factor):
    x = x[start:stop]
    for i in range(x.size):
        x[i] *= factor
