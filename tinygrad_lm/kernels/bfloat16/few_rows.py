"""The product of few rows with a large matrix in bfloat16, as in generation.

Then the time is that of fetching the matrix from memory, and half the bytes are half the time. It lies there as the
right side of any other product, columns(w) (tiles.py): one row of tiles after the other, in the order of their use.

M rows, at most 16; J blocks of 32 columns; K numbers a row, in tiles of 32.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygrad_lm.kernels.bfloat16.instructions import (
    PAIRS,
    PALETTE,
    TILE,
    addresses,
    byte,
    call,
    load,
    loop,
    number,
    numbers,
    round_row,
    row,
    spread,
    store,
    tiles_off,
    tiles_on,
)
from tinygrad_lm.kernels.bfloat16.tiles import AMX
from tinygrad_lm.kernels.numba.compile import compiled, f4
from tinygrad_lm.kernels.numba.together import Part, lead, partners
from tinygrad_lm.ops.matmul import linear_backward

AHEAD = 4096  # bytes: a core that asks so early fetches half as much again in the same time
PALETTES = np.stack([PALETTE] * 17)  # for the sums and the left side M rows are enough
PALETTES[:, 48:54] = np.arange(17)[:, None]


READ = [ir.Constant(ir.IntType(32), i) for i in (0, 2, 1)]  # to read, into level 2, data


def fetch(builder, address):
    """Ask for the tile that is AHEAD bytes further on, from memory to the second-level cache."""
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(byte)] + [ir.IntType(32)] * 3)
    name = "llvm.prefetch.p0"
    prefetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    for line in range(AHEAD, AHEAD + TILE, 64):
        here = builder.inttoptr(builder.add(address, number(line)), ir.PointerType(byte))
        builder.call(prefetch, [here, *READ])


@intrinsic
def block_by_tiles(typing, x, next_x, b, next_b, tiles, y, next_y):
    """y (M, 32) = x b, by AMX. x: M rows in bfloat16, next_x bytes apart; b: two rows of tiles, next_b apart."""

    def code(context, builder, signature, arguments):
        x, next_x, b, next_b, tiles, y, next_y = arguments

        def tile(name, register, address, step):
            pointer = builder.inttoptr(address, ir.PointerType(byte))
            call(builder, f"llvm.x86.tile{name}64", ir.Constant(byte, register), pointer, step)

        for register in range(2):
            call(builder, "llvm.x86.tilezero", ir.Constant(byte, register))
        offset, _, end = loop(builder, tiles, TILE, ())
        tile("loadd", 4, builder.add(x, builder.lshr(offset, number(4))), next_x)  # 64 bytes of x for a tile
        for register in range(2):
            here = builder.add(builder.add(b, builder.mul(next_b, number(register))), offset)
            fetch(builder, here)
            tile("loadd", 6 + register, here, number(64))
            call(builder, "llvm.x86.tdpbf16ps", *(ir.Constant(byte, r) for r in (register, 4, 6 + register)))
        end()
        for register in range(2):
            tile("stored", register, builder.add(y, number(64 * register)), next_y)
        return context.get_dummy_value()

    return addresses(7), code


@intrinsic(prefer_literal=True)
def block_by_vectors(typing, M, x, next_x, b, next_b, tiles, y, next_y):
    """As block_by_tiles, by AVX512-BF16, for an M that is known when this is compiled."""
    if not isinstance(M, types.IntegerLiteral):
        return None
    places = [(m, j) for m in range(M.literal_value) for j in range(2)]

    def code(context, builder, signature, arguments):
        _, x, next_x, b, next_b, tiles, y, next_y = arguments
        sums = [ir.Constant(numbers, [0.0] * 16)] * len(places)
        offset, sums, end = loop(builder, tiles, TILE, sums)
        left = builder.add(x, builder.lshr(offset, number(4)))
        for start in (b, builder.add(b, next_b)):
            fetch(builder, builder.add(start, offset))
        for pair in range(16):
            columns = [builder.add(b, builder.add(offset, number(64 * pair)))]
            columns = [load(builder, address, row) for address in (*columns, builder.add(*columns, next_b))]
            for k, (m, j) in enumerate(places):
                one = builder.add(left, builder.add(builder.mul(next_x, number(m)), number(4 * pair)))
                both = spread(builder, load(builder, one, ir.IntType(32))), columns[j]
                both = (builder.bitcast(x, PAIRS) for x in both)
                sums[k] = call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", sums[k], *both, gives=numbers)
        for (m, j), value in zip(places, end(sums), strict=True):
            store(builder, value, builder.add(y, builder.add(builder.mul(next_y, number(m)), number(64 * j))))
        return context.get_dummy_value()

    return types.none(M, *[types.int64] * 7), code


@Part
def by_tiles(product, j):
    """Columns 32 j to 32 j + 32 of a product that `multiply` describes."""
    depth = product[4]
    tiles_on(product[7])
    here = product[3] + 2 * j * depth * TILE
    block_by_tiles(product[1], product[2], here, depth * TILE, depth, product[5] + 128 * j, product[6])
    tiles_off()


@Part
def by_vectors(product, j):
    """As by_tiles, eight rows at a time."""
    M, x, next_x, depth, y, next_y = product[0], product[1], product[2], product[4], product[5] + 128 * j, product[6]
    here = product[3] + 2 * j * depth * TILE
    while M >= 8:
        block_by_vectors(8, x, next_x, here, depth * TILE, depth, y, next_y)
        M, x, y = M - 8, x + 8 * next_x, y + 8 * next_y
    if M >= 4:
        block_by_vectors(4, x, next_x, here, depth * TILE, depth, y, next_y)
        M, x, y = M - 4, x + 4 * next_x, y + 4 * next_y
    if M >= 2:
        block_by_vectors(2, x, next_x, here, depth * TILE, depth, y, next_y)
        M, x, y = M - 2, x + 2 * next_x, y + 2 * next_y
    if M:
        block_by_vectors(1, x, next_x, here, depth * TILE, depth, y, next_y)


@compiled
def multiply(x, half, tiles, y, palette, function, mailbox):
    """y = x w, and how long the partners were waited for. half: room for x rounded."""
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
    return lead(mailbox, function, product, len(tiles) // 2)


def linear_of_few_rows(x, w, b, tiles):
    """The rule of ops/matmul.py for at most 16 rows of x; tiles = columns(w)."""
    rows = np.ascontiguousarray(x).reshape(-1, len(w))
    y = product_of_few_rows(rows, tiles, w.shape[1])
    if b is not None:
        y += b
    return y.reshape(*x.shape[:-1], w.shape[1]), linear_backward(rows, w, b, x.shape)


def product_of_few_rows(x, tiles, N):
    """x w (M, N), float32, for x (M, K) and tiles = columns(w)."""
    M = len(x)
    J, depth = tiles.shape[0] // 2, tiles.shape[1]
    half, y = np.empty((M, 32 * depth), np.uint16), np.empty((M, 32 * J), f4)
    function = (by_tiles if AMX else by_vectors).address
    partners.work(multiply, x, half, tiles, y, PALETTES[M], function)
    return np.ascontiguousarray(y[:, :N])
