"""x w + b with products of bfloat16 numbers."""

import threading
import weakref

import numpy as np

from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.adding import Adding
from tinygrad_lm.kernels.bfloat16.few_rows import linear_of_few_rows
from tinygrad_lm.kernels.bfloat16.lasting import lasting
from tinygrad_lm.kernels.bfloat16.tiles import DTYPES, NO_BIAS, aligned, both, columns, product, rows
from tinygrad_lm.kernels.numba.again import computed_again
from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.ops.matmul import linear
from tinygrad_lm.unchanged import derived

FEW = 16  # rows from which on a block of 32 × 32 pays


@linear.on("cpu", *DTYPES)
def linear_in_bfloat16(x, w, b=None):
    """The rule of ops/matmul.py. x is kept in bfloat16, half as many bytes; w is rounded where it is used.

    A w that does not change is rounded once: then few rows pay, too.
    """
    fits = w.ndim == 2 and x.shape[-1:] == w.shape[:1] and (b is None or b.shape == w.shape[1:]) and x.size * w.size
    tiles, few = kept_columns(w) if fits else None, x.size < FEW * len(w)
    if not fits or (few and tiles is None):
        return NotImplemented
    if few:
        return linear_of_few_rows(x, w, b, tiles)
    left, right = rounded_once(x), columns(w) if tiles is None else tiles
    y = product(left.rows, right, aligned((x.size // len(w), w.shape[1])), NO_BIAS if b is None else b)
    transposed, shape = left.transposed, x.shape

    def backward(dy):
        dy = np.ascontiguousarray(dy).reshape(-1, w.shape[1])
        dy_rows, dy_columns = both(dy, False)
        dx = lambda: product(dy_rows, columns(w.T), aligned((len(dy), len(w)))).reshape(shape)

        def dw(plus, out):
            if plus is not None and plus is out and out.flags.c_contiguous:
                return product(transposed(), dy_columns, out, add=True)
            found = product(transposed(), dy_columns, aligned(w.shape))
            return found if plus is None else np.add(plus, found, out=out)

        dw = Adding(dw, f4)
        return (dx, dw) if b is None else (dx, dw, dy)

    return y.reshape(*x.shape[:-1], w.shape[1]), backward


def kept_columns(w):
    """columns(w), cut once, of a w that does not change; None of one that may."""
    return derived(columns_to_keep, w)


def columns_to_keep(w):
    return columns(w, lasting)


class Rounded:
    """rows(x) of the rows of an x (..., i), and, where gradients are recorded, a function that gives rows(xᵀ)."""

    def __init__(self, x):
        again = computed_again(x)
        x = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        if again or not thread.recording:
            self.rows, self.transposed = rows(x), again
        else:
            self.rows, others = both(x, True)
            self.transposed = lambda: others


class _Last(threading.local):
    """What this thread rounded last."""

    x, call, rounded = staticmethod(lambda: None), None, None


last = _Last()


def rounded_once(x):
    """Rounded(x); within one call of a model the same again for the same x, as that of queries, keys and values."""
    again = last.x() is x and last.call is thread.products  # an object of its own in each call: nn/context.py
    if not again or (last.rounded.transposed is None and thread.recording):
        last.x, last.call, last.rounded = weakref.ref(x), thread.products, Rounded(x)
    return last.rounded
