"""Numerical derivatives along a direction: what gradients are compared with.

complex step   Im f(x + ih v) / h with h = 1e-30; nothing is subtracted, so nothing is lost. f must be analytic
sixth order    (45 Δ(h) − 9 Δ(2h) + Δ(3h)) / 60h,  Δ(h) = f(x + hv) − f(x − hv). f need only be smooth between the two

f maps a list of arrays to a list of arrays. A direction has an array or a number for each of them, and None for what
has no derivative: ids and conditions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

H = 1e-30


def complex_step(f, point, direction):
    moved = [x if v is None else x + 1j * H * v for x, v in zip(point, direction, strict=True)]
    return [np.asarray(y).imag / H for y in f(moved)]


def sixth_order(dtype, h=2.0**-10):
    """The error in h is about h⁶ = 1e-18; that of rounding is ε/h: 1e-16 in long double, 2e-13 in float64."""

    def derivative(f, point, direction):
        point = [x if v is None else x.astype(dtype) for x, v in zip(point, direction, strict=True)]

        def change(step):
            up, down = (
                f([x if v is None else x + sign * step * v for x, v in zip(point, direction, strict=True)])
                for sign in (1, -1)
            )
            return [np.asarray(a) - b for a, b in zip(up, down, strict=True)]

        changes = zip(change(h), change(2 * h), change(3 * h), strict=True)
        return [((45 * one - 9 * two + three) / (60 * h)).astype(np.float64) for one, two, three in changes]

    return derivative


@dataclass(frozen=True)
class Derivative:
    """compute: (f, point, direction) -> derivatives; tolerance: of comparisons with them, None for checks.TOLERANCE"""

    name: str
    compute: Callable
    tolerance: float | None = None


COMPLEX = Derivative("complex step", complex_step)
LONG_DOUBLE = Derivative("sixth-order difference in long double", sixth_order(np.longdouble))
DOUBLE = Derivative("sixth-order difference in float64", sixth_order(np.float64), 1e-10)


def real_derivative(rule, case):
    """The sharpest derivative of a rule that cannot compute with complex numbers.

    Long double has 64 bits of mantissa on x86 alone, and a rule that calls a foreign function may leave it.
    """
    inputs = [x.astype(np.longdouble) if x.dtype.kind == "f" else x for x in case.inputs]
    longer = np.finfo(np.longdouble).eps < 1e-18
    return LONG_DOUBLE if longer and rule(*inputs, **case.options)[0].dtype == np.longdouble else DOUBLE
