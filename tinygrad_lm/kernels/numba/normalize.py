"""Norms in one pass each way, a row at a time."""

import numpy as np

from tinygrad_lm.kernels.numba.again import remember
from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.halves import half, number, round_to, u2
from tinygrad_lm.kernels.numba.together import LEAST, grain_of, shared
from tinygrad_lm.ops.normalize import check_channels, layer_norm, rms_norm

# C channels
NO_ROWS = np.empty((0, 0), u2)


@layer_norm.on("cpu", "float32")
def layer_norm_by_rows(x, w=None, b=None, *, eps=1e-5, kept=None):
    """The rule of ops/normalize.py. x, the means and 1/σ are kept, not x̂; dw and db are summed on the way.

    kept: arrays for x − mean, rounded (halves.py), and for 1/σ; these are kept instead
    """
    check_channels(x, w, b)
    if not x.shape[-1]:
        return NotImplemented
    shape, C, given = x.shape, x.shape[-1], (True, w is not None, b is not None)
    rows = np.ascontiguousarray(x).reshape(-1, C)
    gain, bias = np.ones(C, f4) if w is None else w, np.zeros(C, f4) if b is None else b
    mean, (halves, inverse) = np.empty(len(rows), f4), kept or (NO_ROWS, np.empty(len(rows), f4))

    def result():
        y = np.empty_like(rows)
        layer_norm_forward(len(y), few(y), rows, gain, bias, f4(eps), y, mean, inverse, halves)
        return y.reshape(shape)

    def backward(dy):
        dy = np.ascontiguousarray(dy).reshape(-1, C)
        dx, (sums, grain) = np.empty_like(dy), sums_of_parts(dy, 2)
        layer_norm_backward(len(dy), few(dy), dy, rows, gain, mean, inverse, dx, sums, grain)
        return tuple(d for d, there in zip((dx.reshape(shape), *sums.sum(0)), given, strict=True) if there)

    y = result()
    if kept:
        rows, mean = halves, np.zeros_like(mean)
    else:
        remember(y, result)
    return y, backward


@rms_norm.on("cpu", "float32")
def rms_norm_by_rows(x, w=None, *, eps=1e-6, kept=None):
    """The rule of ops/normalize.py. x and 1/ρ are kept, not x̂; dw is summed on the way.

    kept: arrays for x, rounded, and for 1/ρ; these are kept instead
    """
    check_channels(x, w)
    if not x.shape[-1]:
        return NotImplemented
    shape, C, given = x.shape, x.shape[-1], w is not None
    rows = np.ascontiguousarray(x).reshape(-1, C)
    gain, (halves, inverse) = np.ones(C, f4) if w is None else w, kept or (NO_ROWS, np.empty(len(rows), f4))

    def result():
        y = np.empty_like(rows)
        rms_norm_forward(len(y), few(y), rows, gain, f4(eps), y, inverse, halves)
        return y.reshape(shape)

    def backward(dy):
        dy = np.ascontiguousarray(dy).reshape(-1, C)
        dx, (sums, grain) = np.empty_like(dy), sums_of_parts(dy, 1)
        rms_norm_backward(len(dy), few(dy), dy, rows, gain, inverse, dx, sums, grain)
        return (dx.reshape(shape), sums.sum(0)[0]) if given else (dx.reshape(shape),)

    y = result()
    if kept:
        rows = halves
    else:
        remember(y, result)
    return y, backward


def few(rows):
    """How many rows a core takes at least at a time."""
    return max(1, LEAST // rows.shape[1])


def sums_of_parts(rows, n):
    """Room for n sums over the rows of each part, (parts, n, C), and how many rows a part has."""
    grain = grain_of(len(rows), few(rows))
    return np.zeros((-(-len(rows) // grain), n, rows.shape[1]), f4), grain


@shared
def layer_norm_forward(start, stop, x, w, b, eps, y, mean, inverse, halves):
    C = x.shape[1]
    for i in range(start, stop):
        total = f4(0)
        for j in range(C):
            total += x[i, j]
        mean[i] = total / f4(C)
        square = f4(0)
        for j in range(C):
            square += (x[i, j] - mean[i]) ** 2
        inverse[i] = f4(1) / np.sqrt(square / f4(C) + eps)
        for j in range(C):
            y[i, j] = (x[i, j] - mean[i]) * inverse[i] * w[j] + b[j]
        if halves.size:
            row, halved = x[i], halves[i]
            for j in range(row.size):
                halved[j] = half(row[j] - mean[i])


@shared
def layer_norm_backward(start, stop, dy, x, w, mean, inverse, dx, sums, each):
    C, dw, db = x.shape[1], sums[start // each, 0], sums[start // each, 1]
    for i in range(start, stop):
        along_1, along_xhat = f4(0), f4(0)
        for j in range(C):
            xhat = (number(x[i, j]) - mean[i]) * inverse[i]
            dx[i, j] = dy[i, j] * w[j]  # g
            along_1 += dx[i, j]
            along_xhat += dx[i, j] * xhat
            dw[j] += dy[i, j] * xhat
            db[j] += dy[i, j]
        along_1, along_xhat = along_1 / f4(C), along_xhat / f4(C)
        for j in range(C):
            xhat = (number(x[i, j]) - mean[i]) * inverse[i]
            dx[i, j] = inverse[i] * (dx[i, j] - along_1 - xhat * along_xhat)


@shared
def rms_norm_forward(start, stop, x, w, eps, y, inverse, halves):
    C = x.shape[1]
    for i in range(start, stop):
        square = f4(0)
        for j in range(C):
            square += x[i, j] * x[i, j]
        inverse[i] = f4(1) / np.sqrt(square / f4(C) + eps)
        for j in range(C):
            y[i, j] = x[i, j] * inverse[i] * w[j]
        if halves.size:
            round_to(halves[i], x[i])


@shared
def rms_norm_backward(start, stop, dy, x, w, inverse, dx, sums, each):
    C, dw = x.shape[1], sums[start // each, 0]
    for i in range(start, stop):
        along_xhat = f4(0)
        for j in range(C):
            xhat = number(x[i, j]) * inverse[i]
            dx[i, j] = dy[i, j] * w[j]  # g
            along_xhat += dx[i, j] * xhat
            dw[j] += dy[i, j] * xhat
        along_xhat = along_xhat / f4(C)
        for j in range(C):
            dx[i, j] = inverse[i] * (dx[i, j] - number(x[i, j]) * inverse[i] * along_xhat)
