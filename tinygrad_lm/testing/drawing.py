"""How tests draw arrays: which numbers, in which layout, of which shapes. cases.py says what goes where.

Hypothesis draws shapes and layouts and shrinks those; the numbers come from a seed, which is fast, and their size does
not matter. They stay away from kinks (relu at 0, the maximum of equals) and from the edges of domains (log, sqrt,
power), where a function has no derivative to compare with; test_edges.py goes there.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

# ---- numbers: functions of a generator and a shape


def signed(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Of both signs, none near 0."""
    return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape))


def positive(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    return rng.uniform(0.5, 2.0, shape)


def separated(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """No two nearer than 0.06, none within 0.03 of 0: where the greatest is sought."""
    n = int(np.prod(shape, dtype=int))
    return 0.06 * (rng.permutation(n) - n // 2 + 0.5).reshape(shape)


def varied(rng, shape):
    """Rows whose entries are 0.25 apart, in any order and around any mean: where a row is divided by its deviation."""
    rows = np.broadcast_to(0.25 * np.arange(shape[-1]), shape)
    return rng.permuted(rows, axis=-1) + rng.uniform(-0.5, 0.0, (*shape[:-1], 1))


def even(rng, shape):
    """Even tenths. With `odd` for the other input no two meet."""
    return 0.2 * rng.integers(-6, 7, shape)


def odd(rng, shape):
    return even(rng, shape) + 0.1


def booleans(rng, shape):
    return rng.integers(0, 2, shape).astype(bool)


# ---- layouts: functions of a C-ordered array; all but the last keep its values

LAYOUTS = {
    "C": lambda x: x,
    "Fortran": lambda x: x.copy("F"),
    "first axis last": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy("C"), -1, 0) if x.ndim else x,
    "negative strides": lambda x: np.flip(np.flip(x).copy("C")),
    "every second": lambda x: np.repeat(x, 2, -1)[..., ::2] if x.ndim else x,
    "zero stride": lambda x: np.broadcast_to(x[..., :1], x.shape) if x.ndim and x.size else x,
}
CHANGES_VALUES = "zero stride"

solid = st.sampled_from([1, 2, 3, 4])
sides = st.sampled_from([1, 2, 3, 4, 1, 2, 3, 4, 2, 3, 5, 0])  # small and unequal, now and then an empty axis
squares = solid.map(lambda n: (n, n))  # only there can a gradient be transposed by mistake
shapes = st.integers(0, 3).flatmap(lambda n: squares if n == 3 else st.lists(sides, max_size=3).map(tuple))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def arrays(draw, shape: Any, numbers: Callable = signed) -> np.ndarray:
    """An array of one shape (or of a drawn one) in any layout, writable or not."""
    shape = shape if isinstance(shape, tuple) else draw(shape)
    x = np.asarray(numbers(np.random.default_rng(draw(seeds)), shape))
    names = [name for name in LAYOUTS if name != CHANGES_VALUES or numbers in (signed, positive)]
    x = np.asarray(LAYOUTS[draw(st.sampled_from(names))](x))
    if draw(st.booleans()):
        x = x.view()
        x.flags.writeable = False
    return x


@st.composite
def broadcastable(draw, n):
    """n shapes that broadcast against each other, and the shape they broadcast to."""
    shape = draw(shapes)
    parts = []
    for _ in range(n):
        kept = shape[draw(st.sampled_from([0, 0, *range(len(shape) + 1)])) :]  # leading axes may be absent
        parts.append(tuple(draw(st.sampled_from([s, s, s, 1])) for s in kept))  # any axis may be 1
    return parts, np.broadcast_shapes(*parts)


def axes(ndim):
    """One axis, or several, or None for all; counted from either end."""
    if not ndim:
        return st.none()
    one = st.integers(-ndim, ndim - 1)
    return st.none() | one | st.lists(one, min_size=1, max_size=ndim, unique_by=lambda i: i % ndim).map(tuple)


@st.composite
def axis_and_solid_shape(draw, choice=axes):
    """A shape, and axes along which it has at least one entry."""
    shape = draw(shapes)
    axis = draw(choice(len(shape)))
    reduced = {i % len(shape) for i in ((axis,) if isinstance(axis, int) else axis or range(-len(shape), 0))}
    return axis, tuple(max(s, 1) if i in reduced else s for i, s in enumerate(shape))
