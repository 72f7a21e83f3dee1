"""How our Numba kernels are compiled, and the exponential function that they share.

Numba turns a Python loop over arrays into machine code for the processor at hand. So a kernel here reads like the
formula written out for one row, and its passes over memory are the loops one sees. The machine code is kept beside the
kernels, in __pycache__, and made again when their files change; after a change of what kernels of other files use, as
all of this file, halves.py, memory.py or together.py, delete it by hand.
"""

import functools
import sys

import numba
import numpy as np
from numba.core import event

f4, i4 = np.float32, np.int32

# Sums may be taken in any order, which lets them run in vector registers. NaN and infinities keep their meaning.
OPTIONS = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "error_model": "numpy"}


def compiled(function=None, **options):
    """Decorator: compile at the first call and keep the machine code on disk; run outside the interpreter's lock."""
    if function is None:
        return functools.partial(compiled, **options)
    options = {"nogil": True, **OPTIONS, **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for it can be written: compiled again by each process
        return numba.njit(**options)(function)


def inlined(function):
    """Decorator: inline this into compiled functions."""
    return numba.njit(inline="always", **OPTIONS)(function)


class _Notice(event.Listener):
    """One line on the terminal before a process's first compilation: a kernel takes some seconds, once for a machine.

    Another program may need others, and then says so again.
    """

    given = False

    def on_start(self, event):
        if not _Notice.given:
            _Notice.given = True
            print(
                "compiling the CPU kernels that are new to this machine (ten seconds to a minute)",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event):
        pass


event.register("numba:compile", _Notice())


LOG2E, LN2_HIGH, LN2_LOW = f4(1.44269504), f4(0.693359375), f4(-2.12194440e-4)
C2, C3, C4 = f4(0.50000001201), f4(0.16666665459), f4(4.1665795894e-2)  # nearly 1/2!, 1/3!, …
C5, C6, C7 = f4(8.3334519073e-3), f4(1.3981999507e-3), f4(1.9875691500e-4)


@inlined
def exp(x):
    """exp x in float32, relative error 3e-7; 0 below −87.3 and infinite above 88.4.

    x = n ln 2 + r with |r| ≤ ln 2 / 2, so exp x = 2ⁿ exp r: a polynomial, and an integer in the exponent's bits. The
    coefficients are those of Cephes' expf (Moshier 1989). Branch-free, so a loop over it runs in vector registers.
    """
    z = min(max(x, f4(-88.0)), f4(89.0))
    n = np.floor(z * LOG2E + f4(0.5))
    r = z - n * LN2_HIGH - n * LN2_LOW
    p = ((((C7 * r + C6) * r + C5) * r + C4) * r + C3) * r + C2
    p = p * r * r + r + f4(1)
    power = i4((i4(n) + i4(127)) << i4(23)).view(f4)
    return p * power if x == x else x  # NaN stays NaN
