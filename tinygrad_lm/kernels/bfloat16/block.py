"""The product of two blocks of 32 × 32 bfloat16 numbers with float32 sums, by the instructions that a processor has."""

from llvmlite import ir
from numba.extending import intrinsic

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


@intrinsic
def block_by_tiles(typing, a, next_a, b, next_b, tiles, c, next_c, add):
    """c (32, 32), float32 with rows next_c bytes apart, = [c if add] + Σ over `tiles` tiles of a b.

    a, b: two rows of tiles each, next_a and next_b bytes apart; a's rows are c's, b's pairs (tiles.py)
    """

    def code(context, builder, signature, arguments):
        a, next_a, b, next_b, tiles, c, next_c, add = arguments
        below = builder.add(c, builder.mul(next_c, number(16)))
        quarters = [c, builder.add(c, number(64)), below, builder.add(below, number(64))]

        def tile(name, register, address, step):
            pointer = builder.inttoptr(address, ir.PointerType(byte))
            call(builder, f"llvm.x86.tile{name}64", ir.Constant(byte, register), pointer, step)

        with builder.if_else(builder.icmp_signed("!=", add, number(0))) as (then, otherwise):
            with then:
                for register, quarter in enumerate(quarters):
                    tile("loadd", register, quarter, next_c)
            with otherwise:
                for register in range(4):
                    call(builder, "llvm.x86.tilezero", ir.Constant(byte, register))
        offset, _, end = loop(builder, tiles, TILE, ())
        for register, address in ((4, a), (5, builder.add(a, next_a)), (6, b), (7, builder.add(b, next_b))):
            tile("loadd", register, builder.add(address, offset), number(64))
        for registers in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7)):
            call(builder, "llvm.x86.tdpbf16ps", *(ir.Constant(byte, register) for register in registers))
        end()
        for register, quarter in enumerate(quarters):
            tile("stored", register, quarter, next_c)
        return context.get_dummy_value()

    return addresses(8), code


@intrinsic
def block_by_vectors(typing, a, next_a, b, next_b, tiles, c, next_c, add):
    """As block_by_tiles, eight rows of c at a time: 16 vectors of sums stay in registers."""

    def code(context, builder, signature, arguments):
        a, next_a, b, next_b, tiles, c, next_c, add = arguments
        again = builder.icmp_signed("!=", add, number(0))
        for first in range(0, 32, 8):
            rows = builder.add(a, next_a) if first >= 16 else a
            rows = builder.add(rows, number(first % 16 * 64))
            places = [
                builder.add(builder.add(c, builder.mul(next_c, number(first + i))), number(64 * j))
                for i in range(8)
                for j in range(2)
            ]
            zero = ir.Constant(numbers, [0.0] * 16)
            with builder.if_else(again) as (then, otherwise):
                with then:
                    known, from_then = [load(builder, place, numbers) for place in places], builder.block
                with otherwise:
                    from_otherwise = builder.block
            sums = [builder.phi(numbers) for _ in places]
            for phi, value in zip(sums, known, strict=True):
                phi.add_incoming(value, from_then)
                phi.add_incoming(zero, from_otherwise)
            offset, sums, end = loop(builder, tiles, TILE, sums)
            here, right, beside = (builder.add(x, offset) for x in (rows, b, builder.add(b, next_b)))
            for pair in range(16):
                columns = [load(builder, builder.add(x, number(64 * pair)), row) for x in (right, beside)]
                for i in range(8):
                    one = load(builder, builder.add(here, number(64 * i + 4 * pair)), ir.IntType(32))
                    many = spread(builder, one)
                    for j in range(2):
                        sums[2 * i + j] = call(
                            builder,
                            "llvm.x86.avx512bf16.dpbf16ps.512",
                            sums[2 * i + j],
                            builder.bitcast(many, PAIRS),
                            builder.bitcast(columns[j], PAIRS),
                            gives=numbers,
                        )
            for place, value in zip(places, end(sums), strict=True):
                store(builder, value, place)
        return context.get_dummy_value()

    return addresses(8), code


def spread(builder, one):
    """A vector of 16 copies of an integer."""
    first = builder.insert_element(ir.Constant(row, ir.Undefined), one, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(row, [0] * 16))
