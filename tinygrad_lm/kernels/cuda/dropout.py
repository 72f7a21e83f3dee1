"""Dropout on a GPU: the random numbers of the definition, drawn where they are used. See dropout.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, for_each, i8, kernel, width
from tinygrad_lm.kernels.cuda.philox import arguments
from tinygrad_lm.ops.dropout import check_probability, dropout, keep

NUMBERS = 8  # that a thread draws


@dropout.on("cuda", "float32", "bfloat16")
def dropout_on_gpu(x, *, p, key):
    """An implementation of `dropout` of ops/dropout.py. Nothing is kept: the backward pass draws the mask again."""
    check_probability(p)
    if not covers(x):
        return NotImplemented
    drawn = *arguments(array_module(x), p, *key), f4(1 - p)
    return masked(x, drawn), lambda dy: (masked(dy, drawn),)


def covers(x):
    """Whether the kernel can be used: each row of x begins with a new counter, which gives NUMBERS numbers."""
    return covered(x) and x.ndim and (len(x) == 1 or x.size // len(x) % NUMBERS == 0)


def masked(x, drawn):
    """x / (1 − p) where it is kept, else 0."""
    x = contiguous(x)
    y = array_module(x).empty_like(x)
    launch = kernel("dropout", "dropout", x, width(x.size, x))
    launch(*for_each(x.size, NUMBERS), x, y, i8(x.size), i8(-(-x.size // len(x) // NUMBERS)), *drawn)
    return y


@keep.on("cuda", "float32", "float64")
def keep_on_gpu(x, p, key):
    """An implementation of `keep` of ops/dropout.py, for the weights of attention where it has no kernel."""
    check_probability(p)
    xp = array_module(x)
    ones = xp.ones(x.shape, f4)
    if not covers(ones):
        return NotImplemented
    return masked(ones, (*arguments(xp, p, *key), f4(1))) > 0
