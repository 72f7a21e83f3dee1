"""Memory that several threads write to, and addresses: what compiled kernels need beyond NumPy's arrays.

Numbers here are 64-bit integers at addresses that 8 divides. The names of what LLVM does are LLVM's.
"""

import platform

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_lm.kernels.numba.compile import inlined

integer = ir.IntType(64)
X86 = platform.machine().lower() in ("x86_64", "amd64")


def pointer(builder, address):
    return builder.inttoptr(address, integer.as_pointer())


@intrinsic
def read(typing, address):
    """The number at an address, before all that is read after it."""

    def code(context, builder, signature, arguments):
        return builder.load_atomic(pointer(builder, arguments[0]), "acquire", 8, typ=integer)

    return types.int64(types.int64), code


@intrinsic
def publish(typing, address, value):
    """Write a number to an address, after all that was written before it."""

    def code(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], pointer(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), code


@intrinsic
def exchange(typing, address, expected, value):
    """Write a number to an address if the expected one is there. Whether it was."""

    def code(context, builder, signature, arguments):
        address, expected, value = arguments
        found = builder.cmpxchg(pointer(builder, address), expected, value, "acq_rel", "monotonic")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), code


@intrinsic
def count(typing, address):
    """Add 1 to the number at an address."""

    def code(context, builder, signature, arguments):
        builder.atomic_rmw("add", pointer(builder, arguments[0]), ir.Constant(integer, 1), "acq_rel")
        return context.get_dummy_value()

    return types.none(types.int64), code


@intrinsic
def compute(typing, function, arguments, part):
    """Call function(arguments, part), a compiled function of two whole numbers, by its address."""

    def code(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [integer.as_pointer(), integer])
        function, arguments, part = arguments
        builder.call(builder.inttoptr(function, kind.as_pointer()), [pointer(builder, arguments), part])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), code


@intrinsic
def ask(typing, address):
    """Ask for the line of the cache at an address, from memory to the second level: it will be read soon."""

    def code(context, builder, signature, arguments):
        small = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), small, small, small])
        name = "llvm.prefetch.p0"
        prefetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        place = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        builder.call(prefetch, [place, *(ir.Constant(small, i) for i in (0, 2, 1))])  # to read, level 2, data
        return context.get_dummy_value()

    return types.none(types.int64), code


def named(builder, name, gives):
    """Call one of LLVM's intrinsics that takes nothing."""
    kind = ir.FunctionType(gives, [])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [])


@intrinsic
def pause(typing):
    """Tell the processor that this thread is only waiting, so that another one on the same core is the faster."""

    def code(context, builder, signature, arguments):
        if X86:
            named(builder, "llvm.x86.sse2.pause", ir.VoidType())
        return context.get_dummy_value()

    return types.none(), code


@intrinsic
def clock(typing):
    """Cycles of the processor's clock."""

    def code(context, builder, signature, arguments):
        return named(builder, "llvm.readcyclecounter", integer)

    return types.int64(), code


@intrinsic
def call_of_part(typing, arguments):
    """The address of code that `compute` can call, that of the arguments (size, grain, …) that it then hands on, and of
    how many bytes these are.

    In a compiled function of (size, grain, part, …), which that code calls; the arguments lie in its frame.
    """

    def code(context, builder, signature, values):
        values = [lent(context, builder, signature.args[0], values[0])]
        place = cgutils.alloca_once_value(builder, values[0])
        kind = ir.FunctionType(ir.VoidType(), [integer.as_pointer(), integer])
        entry = ir.Function(builder.module, kind, f"{builder.function.name}.part")
        entry.linkage = "internal"
        inside = ir.IRBuilder(entry.append_basic_block())
        size, grain, *others = cgutils.unpack_tuple(inside, inside.load(inside.bitcast(entry.args[0], place.type)))
        kinds = types.int64, types.int64, types.int64, *signature.args[0].types[2:]
        given = size, grain, entry.args[1], *others
        context.call_conv.call_function(inside, builder.function, types.int64, kinds, given)
        inside.ret_void()
        three = [builder.ptrtoint(x, integer) for x in (entry, place)]
        three.append(ir.Constant(integer, context.get_abi_sizeof(values[0].type)))
        return context.make_tuple(builder, signature.return_type, three)

    return types.UniTuple(types.int64, 3)(arguments), code


def lent(context, builder, kind, value):
    """A value whose arrays own nothing: those who lent them keep them."""
    if isinstance(kind, types.BaseTuple):
        inner = zip(kind.types, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [lent(context, builder, *each) for each in inner])
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo, array.parent = (cgutils.get_null_value(x.type) for x in (array.meminfo, array.parent))
        return array._getvalue()
    return value


@intrinsic(prefer_literal=True)
def numbers_at(typing, kind, address):
    """The numbers of a kind at an address."""
    element = kind.dtype

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(element).as_pointer())

    return types.CPointer(element)(kind, types.int64), code


@inlined
def floats(address, n):
    """n float32 numbers at an address, as an array."""
    return numba.carray(numbers_at(np.float32, address), (n,))


@inlined
def integers(address, n):
    """n 64-bit integers at an address, as an array."""
    return numba.carray(numbers_at(np.int64, address), (n,))
