"""The product of few rows with a large matrix in bfloat16, as in generation.

Then the time is that of fetching the matrix from memory, and half the bytes are half the time. It lies there as the
right side of any other product, columns(w) (tiles.py): one row of tiles after the other, in the order of their use.

M rows, at most 16; J blocks of 32 columns; K numbers a row, in tiles of 32.
"""

import numpy as np

from tinygrad_lm.kernels.bfloat16.instructions import PALETTE, TILE, round_row, tiles_off, tiles_on
from tinygrad_lm.kernels.bfloat16.strip import strip_by_tiles, strip_by_vectors
from tinygrad_lm.kernels.bfloat16.tiles import AMX, NO_BIAS, add_to, at, tile
from tinygrad_lm.kernels.numba.compile import compiled, f4, inlined
from tinygrad_lm.kernels.numba.together import shared
from tinygrad_lm.ops.matmul import linear_backward

PALETTES = np.stack([PALETTE] * 17)  # for the sums and the left side M rows are enough
PALETTES[:, 48:54] = np.arange(17)[:, None]


@compiled
def round_rows(x, half):
    """Round rows to half, whose rows end with zeros up to a multiple of 32 numbers."""
    M, K = x.shape
    edge = np.zeros(32, f4)
    for m in range(M):
        for k in range(K // 32):
            round_row(at(x, m, 32 * k), half.ctypes.data + m * half.strides[0] + 64 * k)
        if K % 32:
            for k in range(K % 32):
                edge[k] = x[m, K - K % 32 + k]
            round_row(edge.ctypes.data, half.ctypes.data + m * half.strides[0] + K // 32 * 64)


@shared
def by_tiles(start, stop, half, tiles, bias, y, palette):
    """y (M, 32 J) = half w + bias, of the blocks of columns from start to stop."""
    depth = tiles.shape[1]
    tiles_on(palette.ctypes.data)
    for j in range(start, stop):
        here = tile(tiles, 2 * j, 0)
        strip_by_tiles(half.ctypes.data, half.strides[0], here, depth * TILE, depth, at(y, 0, 32 * j), y.strides[0])
        add_bias(y, bias, 32 * j)
    tiles_off()


@shared
def by_vectors(start, stop, half, tiles, bias, y, palette):
    """As by_tiles, eight rows at a time."""
    depth, next_x, next_y = tiles.shape[1], half.strides[0], y.strides[0]
    for j in range(start, stop):
        M, x, c, here = len(half), half.ctypes.data, at(y, 0, 32 * j), tile(tiles, 2 * j, 0)
        while M >= 8:
            strip_by_vectors(8, x, next_x, here, depth * TILE, depth, c, next_y)
            M, x, c = M - 8, x + 8 * next_x, c + 8 * next_y
        if M >= 4:
            strip_by_vectors(4, x, next_x, here, depth * TILE, depth, c, next_y)
            M, x, c = M - 4, x + 4 * next_x, c + 4 * next_y
        if M >= 2:
            strip_by_vectors(2, x, next_x, here, depth * TILE, depth, c, next_y)
            M, x, c = M - 2, x + 2 * next_x, c + 2 * next_y
        if M:
            strip_by_vectors(1, x, next_x, here, depth * TILE, depth, c, next_y)
        add_bias(y, bias, 32 * j)


@inlined
def add_bias(y, bias, first):
    """Add its part of a bias to 32 columns of y."""
    for m in range(len(y)):
        part = bias[first : first + 32]
        add_to(y[m, first : first + part.size], part)


def multiply():
    """The faster of this processor's ways."""
    return by_tiles if AMX else by_vectors


def linear_of_few_rows(x, w, b, tiles):
    """The rule of ops/matmul.py for at most 16 rows of x; tiles = columns(w)."""
    K, N = w.shape
    rows = np.ascontiguousarray(x).reshape(-1, K)
    M, blocks = len(rows), len(tiles) // 2
    half, y = np.empty((M, 32 * tiles.shape[1]), np.uint16), np.empty((M, 32 * blocks), f4)
    round_rows(rows, half)
    multiply()(blocks, 1, half, tiles, NO_BIAS if b is None else b, y, PALETTES[M])
    y = np.ascontiguousarray(y[:, :N])
    return y.reshape(*x.shape[:-1], N), linear_backward(rows, w, b, x.shape)
