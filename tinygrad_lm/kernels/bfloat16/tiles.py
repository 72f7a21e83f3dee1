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

u2 = np.uint16
WIDE, DEEP = 16, 32  # blocks of 32 columns, and tiles along the sum, that all rows meet while they are in the cache
AMX = tiles_allowed()
DTYPES = ["float32/bfloat16"] if compiles_for("avx512bf16") else []  # what implementations here are for; none elsewhere
NONE = np.zeros((0, 0, 16, 32), u2)
NO_BIAS = np.zeros(0, f4)


def aligned(shape, dtype=f4):
    """A new array at an address that 64 divides: a row of a tile crosses no cache line, which halves the time."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def blocks(n):
    """How many blocks of 32 cover n."""
    return (n + 31) // 32


def new_tiles(M, N):
    """Memory for rows(x) of an x of M × N, or for columns(xᵀ)."""
    return aligned((2 * blocks(M), blocks(N), 16, 32), u2)


def rows(x):
    """The tiles of a float32 matrix as the left side of a product."""
    tiles = new_tiles(*x.shape)
    if x.flags.c_contiguous:
        cut(x, 0, 0, *x.shape, tiles, False, NONE, False)
    else:
        x = np.ascontiguousarray(x.T)
        cut(x, 0, 0, *x.shape, NONE, False, tiles, True)
    return tiles


def columns(x):
    """The tiles of a float32 matrix as the right side of a product."""
    tiles = new_tiles(*x.shape[::-1])
    if x.flags.c_contiguous:
        cut(x, 0, 0, *x.shape, NONE, False, tiles, False)
    else:
        x = np.ascontiguousarray(x.T)
        cut(x, 0, 0, *x.shape, tiles, True, NONE, False)
    return tiles


def both(x, of_transpose):
    """rows(x), and rows(xᵀ) or else columns(x): what the products of a backward pass need, in one pass over x."""
    tiles, others = new_tiles(*x.shape), new_tiles(*x.shape[::-1])
    cut(x, 0, 0, *x.shape, tiles, False, others, of_transpose)
    return tiles, others


def product(a, b, c, bias=NO_BIAS, add=False):
    """c (M, N) = [c if add] + a b + bias, float32, for a = rows(…) and b = columns(…). Returns c."""
    multiply = product_by_tiles if AMX else product_by_vectors
    if a.size:
        multiply(a, b, c, bias, add, PALETTE)
    elif not add:
        c[...] = bias if bias.size else 0  # a sum of nothing
    return c


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
    edge = np.empty((32, 32), f4)
    for i in range(blocks_of(M)):
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
def product_of(block, a, b, c, bias, add):
    """Block by block of 32 × 32 entries of c; those at its edges by way of a block that is whole."""
    M, N = c.shape
    K, edge = a.shape[1], np.empty((32, 32), f4)
    for k in range(0, K, DEEP):
        n = min(DEEP, K - k)
        for first in range(0, blocks_of(N), WIDE):
            for i in range(blocks_of(M)):
                for j in range(first, min(blocks_of(N), first + WIDE)):
                    here = c[32 * i : 32 * i + 32, 32 * j : 32 * j + 32]
                    if here.size == 1024:
                        multiply(block, a, i, b, j, k, n, c, 32 * i, 32 * j, k + add)
                    else:
                        if k or add:
                            edge[: here.shape[0], : here.shape[1]] = here
                        multiply(block, a, i, b, j, k, n, edge, 0, 0, k + add)
                        here[:] = edge[: here.shape[0], : here.shape[1]]
                    if bias.size and k + n == K:
                        for r in range(here.shape[0]):
                            for s in range(here.shape[1]):
                                here[r, s] += bias[32 * j + s]


@compiled
def product_by_tiles(a, b, c, bias, add, palette):
    tiles_on(palette.ctypes.data)
    product_of(block_by_tiles, a, b, c, bias, add)
    tiles_off()


@compiled
def product_by_vectors(a, b, c, bias, add, palette):
    product_of(block_by_vectors, a, b, c, bias, add)
