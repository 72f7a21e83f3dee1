"""Dropout on a GPU: the definition's random numbers, drawn where they are used. See dropout.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, for_each, i8, kernel, width
from tinygrad_lm.kernels.cuda.philox import arguments
from tinygrad_lm.ops.dropout import check_probability, dropout, keep

NUMBERS = 8  # that a thread draws


@dropout.on("cuda", "float32", "bfloat16")
def dropout_on_gpu(x, *, p, key):
    """The rule of ops/dropout.py, with its mask bit for bit. Nothing is kept: the backward pass draws the mask again."""
    check_probability(p)
    if not covers(x):
        return NotImplemented
    drawn = arguments(array_module(x), p, *key)
    return masked(x, drawn), lambda dy: (masked(dy, drawn),)


def covers(x):
    """Whether there is a kernel: each row of x begins with a counter of its own, which gives NUMBERS numbers."""
    return covered(x) and x.ndim and (len(x) == 1 or x.size // len(x) % NUMBERS == 0)


def masked(x, drawn):
    """x m / (1 − p)."""
    x = contiguous(x)
    y = array_module(x).empty_like(x)
    run = kernel("dropout", "dropout", x, width(x.size, x))
    run(*for_each(x.size, NUMBERS), x, y, i8(x.size), i8(-(-x.size // len(x) // NUMBERS)), *drawn)
    return y


@keep.on("cuda", "float32", "bfloat16")
def keep_on_gpu(x, p, key):
    """The mask for attention's dropout of its weights: on the host it would be drawn for each pair of positions."""
    check_probability(p)
    xp = array_module(x)
    ones = xp.ones(x.shape, f4)
    if not covers(ones):
        return NotImplemented
    return masked(ones, arguments(xp, p, *key)) > 0
