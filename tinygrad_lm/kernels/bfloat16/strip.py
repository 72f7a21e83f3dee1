"""The product of at most 16 rows with a block of 32 columns, by the instructions that a processor has, as block.py."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygrad_lm.kernels.bfloat16.block import spread
from tinygrad_lm.kernels.bfloat16.instructions import (
    PAIRS,
    TILE,
    addresses,
    byte,
    call,
    load,
    loop,
    number,
    numbers,
    row,
    store,
)

AHEAD = 4096  # bytes: a core that asks so early for what it needs fetches half as much again in the same time
NEAR = 2048  # the same for one row and two, with which a core gets on so fast that 4096 would be a sixth slower
READ = [ir.Constant(ir.IntType(32), i) for i in (0, 2, 1)]  # to read, into level 2, data


def fetch(builder, ahead, offset, tiles, b, next_b):
    """Ask for the tiles that are `ahead` bytes further on in two rows, from memory to the second-level cache.

    Beyond their ends these are the beginnings of the two rows that come next.
    """
    ahead = number(ahead)
    over = builder.icmp_signed(">=", builder.add(offset, ahead), builder.mul(tiles, number(TILE)))
    ahead = builder.add(offset, builder.select(over, builder.add(ahead, next_b), ahead))
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(byte)] + [ir.IntType(32)] * 3)
    name = "llvm.prefetch.p0"
    prefetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    for start in (b, builder.add(b, next_b)):
        first = builder.add(start, ahead)
        for line in range(0, TILE, 64):
            here = builder.inttoptr(builder.add(first, number(line)), ir.PointerType(byte))
            builder.call(prefetch, [here, *READ])


@intrinsic
def strip_by_tiles(typing, x, next_x, b, next_b, tiles, y, next_y):
    """y (M, 32) = x b, by AMX. x: M rows in bfloat16, next_x bytes apart; b: two rows of tiles, next_b apart."""

    def code(context, builder, signature, arguments):
        x, next_x, b, next_b, tiles, y, next_y = arguments

        def tile(name, register, address, step):
            pointer = builder.inttoptr(address, ir.PointerType(byte))
            call(builder, f"llvm.x86.tile{name}64", ir.Constant(byte, register), pointer, step)

        for register in range(2):
            call(builder, "llvm.x86.tilezero", ir.Constant(byte, register))
        offset, _, end = loop(builder, tiles, TILE, ())
        fetch(builder, AHEAD, offset, tiles, b, next_b)
        tile("loadd", 4, builder.add(x, builder.lshr(offset, number(4))), next_x)  # 64 bytes of x for a tile
        for register in range(2):
            here = builder.add(builder.add(b, builder.mul(next_b, number(register))), offset)
            tile("loadd", 6 + register, here, number(64))
            call(builder, "llvm.x86.tdpbf16ps", *(ir.Constant(byte, r) for r in (register, 4, 6 + register)))
        end()
        for register in range(2):
            tile("stored", register, builder.add(y, number(64 * register)), next_y)
        return context.get_dummy_value()

    return addresses(7), code


@intrinsic(prefer_literal=True)
def strip_by_vectors(typing, M, x, next_x, b, next_b, tiles, y, next_y):
    """As strip_by_tiles, by AVX512-BF16, for an M that is known when this is compiled."""
    if not isinstance(M, types.IntegerLiteral):
        return None
    places = [(m, j) for m in range(M.literal_value) for j in range(2)]

    def code(context, builder, signature, arguments):
        _, x, next_x, b, next_b, tiles, y, next_y = arguments
        sums = [ir.Constant(numbers, [0.0] * 16)] * len(places)
        offset, sums, end = loop(builder, tiles, TILE, sums)
        left = builder.add(x, builder.lshr(offset, number(4)))
        fetch(builder, NEAR if M.literal_value <= 2 else AHEAD, offset, tiles, b, next_b)
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
