"""Matrices rounded to bfloat16 and cut into tiles, and their product with float32 sums.

A product's left matrix is cut into tiles of 16 rows and 32 columns, the right one into tiles of 32 rows and 16 columns,
in which two rows lie interleaved as 16 pairs of numbers: the processor multiplies a pair of a row of the left by a pair
of a column of the right. Tiles come in blocks of two, 32 × 32 numbers; beyond the edge of a matrix they are 0.

    rows(x)      for the left side:  (2 I, K, 16, 32), tile (i, k) has the rows 16 i … of x and the columns 32 k …
    columns(x)   for the right side: (2 J, K, 16, 32), tile (j, k) has the columns 16 j … of x and the rows 32 k …
    product(rows(a), columns(b), c)  c = a b

A row of x is a column of xᵀ. So where a tile's rows of pairs become its columns ("turned"), rows(x) becomes columns(xᵀ)
and columns(x) becomes rows(xᵀ).
"""

import math

import numpy as np

from tinygrad_lm.kernels.bfloat16.block import block_by_tiles, block_by_vectors
from tinygrad_lm.kernels.bfloat16.instructions import (
    PALETTE,
    TILE,
    compiles_for,
    round_pairs,
    round_row,
    tiles_allowed,
    tiles_off,
    tiles_on,
    turn,
)
from tinygrad_lm.kernels.numba.compile import compiled, f4, inlined
from tinygrad_lm.kernels.numba.together import shared

u2 = np.uint16
WIDE, DEEP = 16, 32  # blocks of 32 columns, and tiles along the sum, that all rows meet while they are in the cache
WORTH = 2**15  # tiles of 32 numbers times entries of c that are worth to be a part: 2 Mflop, a few microseconds
LEAST = 256  # numbers of a row: where rows are shorter, a core rounds several blocks of them at a time
AMX = tiles_allowed()
DTYPES = ["float32/bfloat16"] if compiles_for("avx512bf16") else []  # what implementations here are for; none elsewhere
NONE = np.zeros((0, 0, 16, 32), u2)
NO_BIAS = np.zeros(0, f4)


def aligned(shape, dtype=f4):
    """A new array at an address that 64 divides: a row of a tile crosses no cache line, which halves the time."""
    memory = np.empty(math.prod(shape) * np.dtype(dtype).itemsize + 64, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % 64)


def blocks(n):
    """How many blocks of 32 cover n."""
    return (n + 31) // 32


def new_tiles(M, N, new=aligned):
    """Memory for rows(x) of an x of M × N, or for columns(xᵀ)."""
    return new((2 * blocks(M), blocks(N), 16, 32), u2)


def rows(x):
    """The tiles of a float32 matrix as the left side of a product."""
    tiles = new_tiles(*x.shape)
    if x.flags.c_contiguous:
        cut_all(x, tiles, False, NONE, False)
    else:
        cut_all(np.ascontiguousarray(x.T), NONE, False, tiles, True)
    return tiles


def columns(x, new=aligned):
    """The tiles of a float32 matrix as the right side of a product."""
    tiles = new_tiles(*x.shape[::-1], new)
    if x.flags.c_contiguous:
        cut_all(x, NONE, False, tiles, False)
    else:
        cut_all(np.ascontiguousarray(x.T), tiles, True, NONE, False)
    return tiles


def both(x, of_transpose):
    """rows(x), and rows(xᵀ) or else columns(x): what the products of a backward pass need, in one pass over x."""
    tiles, others = new_tiles(*x.shape), new_tiles(*x.shape[::-1])
    cut_all(x, tiles, False, others, of_transpose)
    return tiles, others


def cut_all(x, *tiles):
    """Cut a whole matrix, by all cores."""
    cut_strips(blocks(len(x)), max(1, LEAST // max(1, x.shape[1])), x, *tiles)


def product(a, b, c, bias=NO_BIAS, add=False):
    """c (M, N) = [c if add] + a b + bias, float32, for a = rows(…) and b = columns(…). Returns c."""
    multiply = product_by_tiles if AMX else product_by_vectors
    if a.size:
        pieces = blocks(len(c)) * strips(c.shape[1])
        multiply(pieces, max(1, WORTH * pieces // max(1, c.size * a.shape[1])), a, b, c, bias, add, PALETTE)
    elif not add:
        c[...] = bias if bias.size else 0  # a sum of nothing
    return c


def strips(n):
    """How many strips of 32 WIDE columns cover n."""
    return (blocks(n) + WIDE - 1) // WIDE


blocks_of = inlined(blocks)


@inlined
def at(x, i, j):
    """The address of x[i, j], of a float32 matrix in C order."""
    return x.ctypes.data + i * x.strides[0] + 4 * j


@inlined
def tile(tiles, i, k):
    """The address of a tile."""
    return tiles.ctypes.data + (i * tiles.shape[1] + k) * TILE


@inlined
def multiply(block, a, i, b, j, k, n, c, m, s, add):
    """c[m : m + 32, s : s + 32] = [itself if add] + block i of a times block j of b, over their tiles k to k + n."""
    block(
        tile(a, 2 * i, k), a.shape[1] * TILE, tile(b, 2 * j, k), b.shape[1] * TILE, n, at(c, m, s), c.strides[0], add
    )  # fmt: skip


@compiled
def cut(x, top, left, M, N, rows, turn_rows, columns, turn_columns):
    """Cut the M × N entries of x that begin at (top, left) into rows, into columns, or into both, in x's C order."""
    cut_blocks(0, blocks_of(M), x, top, left, M, N, rows, turn_rows, columns, turn_columns)


@shared
def cut_strips(first, last, x, rows, turn_rows, columns, turn_columns):
    """As `cut` all of x, of which here the rows 32 first to 32 last."""
    cut_blocks(first, last, x, 0, 0, x.shape[0], x.shape[1], rows, turn_rows, columns, turn_columns)


@compiled
def cut_blocks(first, last, x, top, left, M, N, rows, turn_rows, columns, turn_columns):
    """As `cut`, the blocks of 32 rows from first to last."""
    edge = np.empty((32, 32), f4)
    for i in range(first, last):
        for k in range(blocks_of(N)):
            here, step = at(x, top + 32 * i, left + 32 * k), x.strides[0]
            if 32 * i + 32 > M or 32 * k + 32 > N:
                edge[:] = 0
                for r in range(min(32, M - 32 * i)):
                    for s in range(min(32, N - 32 * k)):
                        edge[r, s] = x[top + 32 * i + r, left + 32 * k + s]
                here, step = edge.ctypes.data, 128
            for j in range(2 if rows.size else 0):
                place = tile(rows, 2 * i + j, k)
                for r in range(16):
                    round_row(here + (16 * j + r) * step, place + 64 * r)
                if turn_rows:
                    turn(place)
            for j in range(2 if columns.size else 0):
                place = tile(columns, 2 * k + j, i)
                for p in range(16):
                    round_pairs(here + 2 * p * step + 64 * j, here + (2 * p + 1) * step + 64 * j, place + 64 * p)
                if turn_columns:
                    turn(place)


@inlined
def product_of(block, start, stop, a, b, c, bias, add):
    """Pieces of c of 32 rows and a strip's columns, block by block; those at c's edges by way of a block that is whole.

    Pieces are counted down the rows of one strip after the other.
    """
    M, N = c.shape
    K, edge = a.shape[1], np.empty((32, 32), f4)
    for k in range(0, K, DEEP):
        n = min(DEEP, K - k)
        for piece in range(start, stop):
            strip, i = divmod(piece, blocks_of(M))
            for j in range(strip * WIDE, min(blocks_of(N), (strip + 1) * WIDE)):
                m, s, rows, columns = 32 * i, 32 * j, min(32, M - 32 * i), min(32, N - 32 * j)
                if rows == columns == 32:
                    multiply(block, a, i, b, j, k, n, c, m, s, k + add)
                else:
                    if k or add:
                        copy(c, m, s, edge, 0, 0, rows, columns)
                    multiply(block, a, i, b, j, k, n, edge, 0, 0, k + add)
                    copy(edge, 0, 0, c, m, s, rows, columns)
                if bias.size and k + n == K:
                    for r in range(rows):
                        add_to(c[m + r, s : s + columns], bias[s : s + columns])


@compiled
def copy(x, i, j, y, m, s, rows, columns):
    """y[m : m + rows, s : s + columns] = x[i : i + rows, j : j + columns]; that line would take long to compile."""
    for r in range(rows):
        old, new = x[i + r, j : j + columns], y[m + r, s : s + columns]
        for t in range(new.size):
            new[t] = old[t]


@inlined
def add_to(x, y):
    """x += y, of vectors."""
    for i in range(x.size):
        x[i] += y[i]


@shared
def product_by_tiles(start, stop, a, b, c, bias, add, palette):
    tiles_on(palette.ctypes.data)
    product_of(block_by_tiles, start, stop, a, b, c, bias, add)
    tiles_off()


@shared
def product_by_vectors(start, stop, a, b, c, bias, add, palette):
    product_of(block_by_vectors, start, stop, a, b, c, bias, add)
