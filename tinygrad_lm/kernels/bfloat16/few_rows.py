"""The product of few rows with a large matrix in bfloat16, as in generation.

Then the time is that of fetching the matrix from memory, and half the bytes are half the time. It lies there as the
right side of any other product, columns(w) (tiles.py): one row of tiles after the other, in the order of their use.

M rows, at most 16; J blocks of 32 columns; K numbers a row, in tiles of 32.
"""

import numpy as np

from tinygrad_lm.kernels.bfloat16.instructions import PALETTE, TILE, round_row, tiles_off, tiles_on
from tinygrad_lm.kernels.bfloat16.strip import strip_by_tiles, strip_by_vectors
from tinygrad_lm.kernels.bfloat16.tiles import AMX, NO_BIAS
from tinygrad_lm.kernels.numba.compile import compiled, f4
from tinygrad_lm.kernels.numba.together import Part, lead, partners
from tinygrad_lm.ops.matmul import linear_backward

PALETTES = np.stack([PALETTE] * 17)  # for the sums and the left side M rows are enough
PALETTES[:, 48:54] = np.arange(17)[:, None]


@Part
def by_tiles(product, j):
    """Columns 32 j to 32 j + 32 of a product that `multiply` describes."""
    depth = product[4]
    tiles_on(product[7])
    here = product[3] + 2 * j * depth * TILE
    strip_by_tiles(product[1], product[2], here, depth * TILE, depth, product[5] + 128 * j, product[6])
    tiles_off()


@Part
def by_vectors(product, j):
    """As by_tiles, eight rows at a time."""
    M, x, next_x, depth, y, next_y = product[0], product[1], product[2], product[4], product[5] + 128 * j, product[6]
    here = product[3] + 2 * j * depth * TILE
    while M >= 8:
        strip_by_vectors(8, x, next_x, here, depth * TILE, depth, y, next_y)
        M, x, y = M - 8, x + 8 * next_x, y + 8 * next_y
    if M >= 4:
        strip_by_vectors(4, x, next_x, here, depth * TILE, depth, y, next_y)
        M, x, y = M - 4, x + 4 * next_x, y + 4 * next_y
    if M >= 2:
        strip_by_vectors(2, x, next_x, here, depth * TILE, depth, y, next_y)
        M, x, y = M - 2, x + 2 * next_x, y + 2 * next_y
    if M:
        strip_by_vectors(1, x, next_x, here, depth * TILE, depth, y, next_y)


@compiled
def multiply(x, bias, half, tiles, y, palette, function, mailbox):
    """y = x w + bias, and how long the partners were waited for. half: room for x rounded."""
    M, K = x.shape
    edge = np.zeros(32, f4)
    for m in range(M):
        for k in range(K // 32):
            round_row(x.ctypes.data + 4 * (m * K + 32 * k), half.ctypes.data + m * half.strides[0] + 64 * k)
        if K % 32:
            edge[: K % 32] = x[m, K - K % 32 :]
            round_row(edge.ctypes.data, half.ctypes.data + m * half.strides[0] + K // 32 * 64)
    product = np.empty(8, np.int64)
    product[0], product[1], product[2] = M, half.ctypes.data, half.strides[0]
    product[3], product[4] = tiles.ctypes.data, tiles.shape[1]
    product[5], product[6], product[7] = y.ctypes.data, y.strides[0], palette.ctypes.data
    waited = lead(mailbox, function, product, len(tiles) // 2)
    for m in range(M):
        for n in range(bias.size):
            y[m, n] += bias[n]
    return waited


def linear_of_few_rows(x, w, b, tiles):
    """The rule of ops/matmul.py for at most 16 rows of x; tiles = columns(w)."""
    K, N = w.shape
    rows = np.ascontiguousarray(x).reshape(-1, K)
    M = len(rows)
    half, y = np.empty((M, 32 * tiles.shape[1]), np.uint16), np.empty((M, 16 * len(tiles)), f4)
    way = by_tiles if AMX else by_vectors
    partners.work(multiply, rows, NO_BIAS if b is None else b, half, tiles, y, PALETTES[M], way.address)
    y = np.ascontiguousarray(y[:, :N])
    return y.reshape(*x.shape[:-1], N), linear_backward(rows, w, b, x.shape)
