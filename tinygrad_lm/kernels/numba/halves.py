"""bfloat16 numbers in compiled kernels: integers of 16 bits, the upper half of the bits of a float32 number."""

import numpy as np
from numba import types
from numba.extending import overload

from tinygrad_lm.kernels.numba.compile import f4, inlined

u2, u4 = np.uint16, np.uint32
NONE = np.empty(0, u2)


@inlined
def half(x):
    """The bits of the bfloat16 number nearest to a float32 number; of two equally near the even one, NaN for NaN."""
    bits = f4(x).view(u4)
    up = (bits + u4(0x7FFF) + ((bits >> u4(16)) & u4(1))) >> u4(16)
    return u2(up if x == x else u4(0x7FC0))


def number(x):
    """The float32 number that a kernel's array has here: in float32, or the bits of a bfloat16 number."""


@overload(number, inline="always")
def number_of(x):
    if x == types.uint16:
        return lambda x: u4(u4(x) << u4(16)).view(f4)
    return lambda x: x


@inlined
def round_to(halves, x):
    """Write the halves of x, as far as `halves` goes: nothing to NONE."""
    for i in range(halves.size):
        halves[i] = half(x[i])
