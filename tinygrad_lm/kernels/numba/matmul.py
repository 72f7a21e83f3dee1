"""The product of few rows with a large matrix, as in generation; and of what can be computed again.

With few rows the time is that of fetching the matrix from memory. A BLAS, made for many rows, first copies the matrix
into its own layout; here each of its numbers is fetched once and meets all rows while it is in the cache.
"""

import math

import numpy as np

from tinygrad_lm.kernels.numba.again import computed_again
from tinygrad_lm.kernels.numba.compile import compiled, f4
from tinygrad_lm.kernels.numba.memory import ask
from tinygrad_lm.kernels.numba.together import shared
from tinygrad_lm.ops.matmul import linear, linear_backward

FEW, LARGE = 8, 2**18  # up to so many rows, and from so many entries of w on, this is the faster way
TILE = 384  # columns: a few rows of so many fit into the first-level cache, and every core gets some


@linear.on("cpu", "float32")
def linear_on_cpu(x, w, b=None):
    """The rule of ops/matmul.py: of few rows by all cores; of more by BLAS, which keeps no x that can be had again."""
    few = w.ndim == 2 and w.size >= LARGE and 0 < x.size <= FEW * len(w) and x.shape[-1] == len(w)
    if few and (w.flags.c_contiguous or w.flags.f_contiguous):
        return linear_of_few_rows(x, w, b)
    again = computed_again(x)
    return NotImplemented if again is None else linear_of_result(x, w, b, again)


def linear_of_result(x, w, b, again):
    """The rule for an x that again() gives once more."""
    y, _ = linear.rule(x, w, b)
    shape, n = x.shape, math.prod(x.shape[:-1])

    def backward(dy):
        dy = dy.reshape(n, w.shape[1])
        dx = lambda: (dy @ w.T).reshape(shape)
        dw = lambda: again().reshape(n, len(w)).T @ dy
        return (dx, dw) if b is None else (dx, dw, dy)

    return y, backward


def linear_of_few_rows(x, w, b):
    """The rule by all cores together on the columns of y."""
    rows = np.ascontiguousarray(x.reshape(-1, len(w)))
    y = np.empty((len(rows), w.shape[1]), f4)
    if w.flags.c_contiguous:
        sum_rows(-(-w.shape[1] // TILE), 1, rows, w, y)
    else:
        dot_columns(w.shape[1], 1, rows, w.T, y)
    if b is not None:
        y += b
    return y.reshape(*x.shape[:-1], w.shape[1]), linear_backward(rows, w, b, x.shape)


@shared(beside_blas=True)
def sum_rows(first, last, x, w, y):
    """Tiles of y = x w for w that lies in memory row by row."""
    for tile in range(first, last):
        sum_rows_of_tile(x, w, y, tile * TILE, min((tile + 1) * TILE, y.shape[1]))


@compiled
def sum_rows_of_tile(x, w, y, start, end):
    """y[:, start:end], from eight rows of w at a time."""
    M, K = x.shape
    total = np.zeros((M, end - start), f4)
    for k in range(0, K - 7, 8):
        w0, w1, w2, w3 = w[k, start:end], w[k + 1, start:end], w[k + 2, start:end], w[k + 3, start:end]
        w4, w5, w6, w7 = w[k + 4, start:end], w[k + 5, start:end], w[k + 6, start:end], w[k + 7, start:end]
        for m in range(M):
            x0, x1, x2, x3 = x[m, k], x[m, k + 1], x[m, k + 2], x[m, k + 3]
            x4, x5, x6, x7 = x[m, k + 4], x[m, k + 5], x[m, k + 6], x[m, k + 7]
            row = total[m]
            for j in range(row.size):
                first = x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
                row[j] += first + x4 * w4[j] + x5 * w5[j] + x6 * w6[j] + x7 * w7[j]
    for k in range(K - K % 8, K):
        for m in range(M):
            for j in range(end - start):
                total[m, j] += x[m, k] * w[k, start + j]
    for m in range(M):
        for j in range(end - start):
            y[m, start + j] = total[m, j]


@shared(beside_blas=True)
def dot_columns(start, end, x, columns, y):
    """y[:, start:end] of y = x w for w that lies in memory column by column, four rows of x at a time."""
    M = len(x)
    for n in range(start, end):
        column = columns[n]
        for k in range(0, column.size, 16):  # of the column after the next; beyond the last one it is harmless
            ask(columns.ctypes.data + 4 * ((n + 2) * column.size + k))
        for m in range(0, M - 3, 4):
            xa, xb, xc, xd = x[m], x[m + 1], x[m + 2], x[m + 3]
            a, b, c, d = f4(0), f4(0), f4(0), f4(0)
            for k in range(column.size):
                a += xa[k] * column[k]
                b += xb[k] * column[k]
                c += xc[k] * column[k]
                d += xd[k] * column[k]
            y[m, n], y[m + 1, n], y[m + 2, n], y[m + 3, n] = a, b, c, d
        for m in range(M - M % 4, M):
            row, a = x[m], f4(0)
            for k in range(column.size):
                a += row[k] * column[k]
            y[m, n] = a
