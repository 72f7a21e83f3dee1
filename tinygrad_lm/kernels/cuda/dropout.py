"""Dropout on a GPU: the definition's random numbers, drawn where they are used. See dropout.cu."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, for_each, i8, kernel, width
from tinygrad_lm.kernels.cuda.philox import arguments
from tinygrad_lm.ops.dropout import MASKS, check_probability, dropout

NUMBERS = 8  # that a thread draws


@dropout.kernel("cuda")
def dropout_on_gpu(x, *, p, key):
    """The rule of ops/dropout.py, with its mask bit for bit. Nothing is kept: the way back draws the mask again."""
    check_probability(p)
    if not covered(x):
        return dropout.rule(x, p=p, key=key)
    drawn = arguments(array_module(x), p, *key)
    return masked(x, drawn), lambda dy: (masked(dy, drawn),)


def masked(x, drawn):
    """x m / (1 − p)."""
    x = contiguous(x)
    y = array_module(x).empty_like(x)
    run = kernel("dropout", "dropout", x, width(x.size, x))
    run(*for_each(x.size, NUMBERS), x, y, i8(x.size), *drawn)
    return y


def mask(xp, shape, p, key):
    """m, for attention's dropout of its weights: on the host it would be drawn for each pair of positions."""
    ones = xp.ones(shape, f4)
    return masked(ones, arguments(xp, p, *key)) > 0 if ones.size else ones > 0


MASKS["cuda"] = mask
