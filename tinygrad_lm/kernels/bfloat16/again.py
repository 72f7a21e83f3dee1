"""Norms and activations whose results products compute again (numba/again.py), in tiles.

What is kept is their input, rounded to bfloat16: an activation's x; of a norm x − mean, for where all numbers of a row
are large their differences are what counts. Their gradients are those at the rounded x. In its backward pass the
product needs rows(yᵀ) (tiles.py), which is cut from y a few rows at a time, while they are in the cache.
"""

from functools import partial

import numpy as np

from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.bfloat16.tiles import DTYPES, NONE, blocks, cut_blocks, new_tiles
from tinygrad_lm.kernels.numba import activation as loops
from tinygrad_lm.kernels.numba.activation import gelu_tanh_of, relu_squared_of, silu_of
from tinygrad_lm.kernels.numba.again import remember as remember_result
from tinygrad_lm.kernels.numba.compile import f4, inlined
from tinygrad_lm.kernels.numba.halves import number, u2
from tinygrad_lm.kernels.numba.normalize import layer_norm_by_rows, rms_norm_by_rows
from tinygrad_lm.kernels.numba.together import shared
from tinygrad_lm.ops.activation import gelu_tanh, relu_squared, silu
from tinygrad_lm.ops.normalize import layer_norm, rms_norm


def remember(y, cut, halves, *others):
    """Let rows(yᵀ) be computed by cut(first, last, halves, *others, tiles), from x as `halves` of y's shape."""
    halves = halves.reshape(-1, y.shape[-1])

    def again():
        tiles = new_tiles(*halves.shape[::-1])
        cut(blocks(len(halves)), 1, halves, *others, tiles)
        return tiles

    remember_result(y, again)


@layer_norm.on("cpu", *DTYPES)
def layer_norm_of_rounded(x, w=None, b=None, *, eps=1e-5):
    """As numba/normalize.py's."""
    return norm(partial(layer_norm_by_rows, x, *(p for p in (w, b) if p is not None), eps=eps), x, w, b)


@rms_norm.on("cpu", *DTYPES)
def rms_norm_of_rounded(x, w=None, *, eps=1e-6):
    """As numba/normalize.py's."""
    return norm(partial(rms_norm_by_rows, x, w, eps=eps), x, w, None)


def norm(rule, x, w, b):
    """The contract of a rule, by one that is told where to keep what."""
    if not thread.recording or not x.size:
        return rule()
    C = x.shape[-1]
    kept = np.empty((x.size // C, C), u2), np.empty(x.size // C, f4)
    y, backward = rule(kept=kept)
    remember(y, cut_norm, *kept, np.ones(C, f4) if w is None else w, np.zeros(C, f4) if b is None else b)
    return y, backward


@gelu_tanh.on("cpu", *DTYPES)
def gelu_tanh_of_rounded(x):
    """As numba/activation.py's."""
    return activation("gelu_tanh", cut_gelu_tanh, x)


@relu_squared.on("cpu", *DTYPES)
def relu_squared_of_rounded(x):
    """As numba/activation.py's."""
    return activation("relu_squared", cut_relu_squared, x)


@silu.on("cpu", *DTYPES)
def silu_of_rounded(x):
    """As numba/activation.py's."""
    return activation("silu", cut_silu, x)


def activation(name, cut, x):
    """The contract of a rule, by the loops of numba/activation.py."""
    halves = np.empty(x.shape, u2) if thread.recording and x.ndim and x.size else None
    y, backward = loops.one_pass(*(getattr(loops, f"{name}_{way}") for way in ("forward", "backward")), x, halves)
    if halves is not None:
        remember(y, cut, halves)
    return y, backward


@shared
def cut_norm(first, last, halves, inverse, w, b, tiles):
    y = np.empty((32, halves.shape[1]), f4)
    for i in range(first, last):
        for r in range(min(32, len(halves) - 32 * i)):
            x, row, scale = halves[32 * i + r], y[r], inverse[32 * i + r]
            for j in range(row.size):
                row[j] = number(x[j]) * scale * w[j] + b[j]
        cut_rows(y, i, len(halves), tiles)


@inlined
def cut_activation(function, first, last, halves, tiles):
    y = np.empty((32, halves.shape[1]), f4)
    for i in range(first, last):
        for r in range(min(32, len(halves) - 32 * i)):
            x, row = halves[32 * i + r], y[r]
            for j in range(row.size):
                row[j] = function(number(x[j]))
        cut_rows(y, i, len(halves), tiles)


@inlined
def cut_rows(y, i, M, tiles):
    """Cut a block of rows, number i of a matrix of M, to its place in the tiles of the transpose."""
    cut_blocks(i, i + 1, y, -32 * i, 0, M, y.shape[1], NONE, False, tiles, True)


@shared
def cut_gelu_tanh(first, last, halves, tiles):
    cut_activation(gelu_tanh_of, first, last, halves, tiles)


@shared
def cut_relu_squared(first, last, halves, tiles):
    cut_activation(relu_squared_of, first, last, halves, tiles)


@shared
def cut_silu(first, last, halves, tiles):
    cut_activation(silu_of, first, last, halves, tiles)
