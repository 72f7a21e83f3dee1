"""Instructions of x86 processors for bfloat16 that Numba has no name for, as functions for compiled kernels.

A *tile* is 1 KB at an address that 64 divides: 16 rows of 32 bfloat16 numbers, or of 16 pairs of them (tiles.py).

    tiles_on, tiles_off       AMX: the registers for whole tiles of Xeons since the fourth generation (2023)
    round_row, round_pairs    AVX512-BF16, of Xeons since Cooper Lake and AMD's processors since Zen 4
    turn                      exchanges the rows of a tile of pairs and its columns
    largest                   of many numbers, which Numba compiles to a loop over one at a time

The names are those of LLVM's intrinsics, whose code Numba hands to LLVM; the processors' manuals say what they do.
"""

import ctypes
import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

TILE = 1024  # bytes
ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA, SYS_ARCH_PRCTL = 0x1023, 18, 158  # Linux' asm/prctl.h


def compiles_for(feature):
    """Whether Numba's code is for a processor that has this feature, by LLVM's name."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return f"+{feature}" in features.split(",")


def tiles_allowed():
    """Ask Linux for the tile registers, 8 KB a thread, which a process has on demand only. Whether it agrees."""
    if sys.platform != "linux" or not compiles_for("amx-bf16"):
        return False
    return ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0


byte, integer, float32 = ir.IntType(8), ir.IntType(64), ir.FloatType()
row, numbers = ir.VectorType(ir.IntType(32), 16), ir.VectorType(float32, 16)


class Bfloat16(ir.Type):
    """Numbers of bfloat16, for which llvmlite has no name."""

    def __init__(self, size):
        self.size = size

    def _to_string(self):
        return f"<{self.size} x bfloat>"

    def __eq__(self, other):
        return isinstance(other, Bfloat16) and self.size == other.size

    def __hash__(self):
        return hash(self.size)


PAIRS = Bfloat16(32)
PALETTE = np.zeros(80 + 64, np.uint8)  # what each tile register holds: 16 rows of 64 bytes
PALETTE = PALETTE[-PALETTE.ctypes.data % 64 :][:64]
PALETTE[0] = 1
PALETTE[16:32].view(np.uint16)[:] = 64
PALETTE[48:56] = 16


def addresses(n):
    """The signature of an instruction that takes so many addresses and numbers and gives nothing."""
    return types.none(*[types.int64] * n)


def number(n):
    return ir.Constant(integer, n)


def call(builder, name, *arguments, gives=ir.VoidType()):  # noqa: B008 (a type is never changed)
    """Call one of LLVM's intrinsics."""
    kind = ir.FunctionType(gives, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def load(builder, address, kind):
    """What lies at an address that need not be a multiple of anything but 4."""
    return builder.load(builder.inttoptr(address, ir.PointerType(kind)), align=4)


def store(builder, value, address):
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type)), align=4)


def loop(builder, steps, stride, carried):
    """Begin a loop over 0, stride, …, steps · stride with values that are carried from turn to turn.

    Returns the offset, the values, and a function that ends the loop, given the next values, and returns the last ones.
    """
    before, body, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    offset, *values = (builder.phi(kind) for kind in (integer, *(value.type for value in carried)))
    for phi, first in zip((offset, *values), (number(0), *carried), strict=True):
        phi.add_incoming(first, before)

    def end(following=()):
        further = builder.add(offset, number(stride))
        for phi, value in zip((offset, *values), (further, *following), strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", further, builder.mul(steps, number(stride))), body, after)
        builder.position_at_end(after)
        return following

    return offset, [*values], end


@intrinsic
def tiles_on(typing, palette):
    """Lay out the tile registers of this thread."""

    def code(context, builder, signature, arguments):
        call(builder, "llvm.x86.ldtilecfg", builder.inttoptr(arguments[0], ir.PointerType(byte)))
        return context.get_dummy_value()

    return addresses(1), code


@intrinsic
def tiles_off(typing):
    """Give the tile registers back: a thread that holds them takes longer to switch to."""

    def code(context, builder, signature, arguments):
        call(builder, "llvm.x86.tilerelease")
        return context.get_dummy_value()

    return addresses(0), code


@intrinsic
def turn(typing, tile):
    """Exchange rows and columns of a tile of pairs, in place, in the processor's registers.

    Four rounds: one exchanges the off-diagonal blocks of 8 × 8, the next those of 4 × 4 within each, then 2 × 2, 1 × 1.
    """

    def code(context, builder, signature, arguments):
        places = [builder.add(arguments[0], number(64 * i)) for i in range(16)]
        rows = [load(builder, place, row) for place in places]
        for size in (8, 4, 2, 1):
            upper = [j if not j & size else 16 + j - size for j in range(16)]  # 16 + j is column j of the lower row
            lower = [j + size if not j & size else 16 + j for j in range(16)]
            for i in range(16):
                if not i & size:
                    pair = rows[i], rows[i + size]
                    for k, columns in ((i, upper), (i + size, lower)):
                        rows[k] = builder.shuffle_vector(*pair, ir.Constant(row, columns))
        for place, value in zip(places, rows, strict=True):
            store(builder, value, place)
        return context.get_dummy_value()

    return addresses(1), code


@intrinsic
def round_row(typing, x, tile):
    """Round 32 float32 numbers at x to a row of a tile."""

    def code(context, builder, signature, arguments):
        x, tile = arguments
        for i in range(2):
            some = load(builder, builder.add(x, number(64 * i)), numbers)
            half = call(builder, "llvm.x86.avx512bf16.cvtneps2bf16.512", some, gives=Bfloat16(16))
            store(builder, builder.bitcast(half, ir.VectorType(ir.IntType(16), 16)), builder.add(tile, number(32 * i)))
        return context.get_dummy_value()

    return addresses(2), code


@intrinsic
def round_pairs(typing, x, below, tile):
    """Round 16 float32 numbers at x and the 16 below them to a row of a tile of pairs."""

    def code(context, builder, signature, arguments):
        x, below, tile = arguments
        two = (load(builder, place, numbers) for place in (below, x))
        both = call(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", *two, gives=PAIRS)
        both = builder.bitcast(both, ir.VectorType(ir.IntType(16), 32))
        order = ir.Constant(ir.VectorType(ir.IntType(32), 32), [i // 2 + 16 * (i % 2) for i in range(32)])
        store(builder, builder.shuffle_vector(both, both, order), tile)
        return context.get_dummy_value()

    return addresses(3), code


@intrinsic
def largest(typing, x, count):
    """The largest of `count` float32 numbers at x, a multiple of 16; where some are NaN, one of them or a number."""

    def code(context, builder, signature, arguments):
        x, count = arguments
        offset, (most,), end = loop(builder, builder.sdiv(count, number(16)), 64, [load(builder, x, numbers)])
        some = load(builder, builder.add(x, offset), numbers)
        (most,) = end([builder.select(builder.fcmp_ordered(">", some, most), some, most)])
        return call(builder, "llvm.vector.reduce.fmax.v16f32", most, gives=float32)

    return types.float32(types.int64, types.int64), code
