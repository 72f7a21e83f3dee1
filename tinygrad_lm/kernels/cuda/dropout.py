"""Dropout on a GPU: the random numbers of the definition, drawn where they are used. See dropout.cu."""

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, for_each, i8, kernel, width
from tinygrad_lm.kernels.cuda.philox import arguments
from tinygrad_lm.ops.dropout import check_probability, dropout, keep

NUMBERS = 8  # that a thread draws


@dropout.on("cuda", "float32", "bfloat16")
def dropout_on_gpu(x, *, p, key):
    """An implementation of `dropout` of ops/dropout.py. A bit an entry is kept."""
    check_probability(p)
    if not covers(x):
        return NotImplemented
    y, bits = masked(x, arguments(array_module(x), p, *key), f4(1 - p))

    def backward(dy):
        dy = contiguous(dy)
        dx = array_module(dy).empty_like(dy)
        launch = kernel("dropout", "dropout_backward", dy, width(dy.size, dy))
        launch(*for_each(dy.size, NUMBERS), dy, dx, bits, i8(dy.size), f4(1 - p))
        return (dx,)

    return y, backward


def covers(x):
    """Whether the kernel can be used: each row of x begins with a new counter, which gives NUMBERS numbers."""
    return covered(x) and x.ndim and (len(x) == 1 or x.size // len(x) % NUMBERS == 0)


def masked(x, drawn, share):
    """x / share where it is kept, else 0; and the bits that say where, NUMBERS entries each."""
    x, xp = contiguous(x), array_module(x)
    y, bits = xp.empty_like(x), xp.empty(-(-x.size // NUMBERS), np.uint8)
    launch = kernel("dropout", "dropout", x, width(x.size, x))
    launch(*for_each(x.size, NUMBERS), x, y, bits, i8(x.size), i8(-(-x.size // len(x) // NUMBERS)), *drawn, share)
    return y, bits


@keep.on("cuda", "float32", "float64")
def keep_on_gpu(x, p, key):
    """An implementation of `keep` of ops/dropout.py, for the weights of attention where it has no kernel."""
    check_probability(p)
    xp = array_module(x)
    ones = xp.ones(x.shape, f4)
    if not covers(ones):
        return NotImplemented
    return masked(ones, arguments(xp, p, *key), f4(1))[0] > 0
