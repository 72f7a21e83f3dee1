"""Inputs of one call, and the strategies that fit many operations: of one input, of two, along an axis."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tinygrad_lm.backend import DTypeLike, dtype_of, is_floating
from tinygrad_lm.testing.drawing import arrays, axes, axis_and_solid_shape, broadcastable, shapes, signed


@dataclass
class Case:
    """Inputs of one call: floating ones are float64, ids are integers, conditions booleans."""

    inputs: tuple
    options: dict = field(default_factory=dict)

    @property
    def floating(self) -> list[int]:
        """Which inputs have a gradient."""
        return [i for i, x in enumerate(self.inputs) if is_floating(x.dtype)]

    def to(self, dtype: DTypeLike) -> "Case":
        """The same numbers, rounded to another floating dtype."""
        dtype = dtype_of(dtype)
        return Case(tuple(x.astype(dtype) if is_floating(x.dtype) else x for x in self.inputs), self.options)

    def copy(self) -> "Case":
        """The same inputs in memory of their own, which may be written to."""
        return Case(tuple(np.array(x) for x in self.inputs), self.options)


def as_case(drawn):
    """A Case as it is; an array or a tuple of arrays and numbers as the inputs of a call without options."""
    if isinstance(drawn, Case):
        return drawn
    inputs = [np.asarray(x) for x in (drawn if isinstance(drawn, tuple | list) else (drawn,))]
    return Case(tuple(x.astype(np.float64) if is_floating(x.dtype) else x for x in inputs))


def some_cases(strategy: st.SearchStrategy, count: int = 60) -> list[Case]:
    """The same drawn cases in every run, of six rounds: within one Hypothesis varies what it has, and repeats much."""
    cases = []
    for start in range(6):

        @seed(start)
        @settings(
            max_examples=-(-count // 6), database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(strategy)
        def collect(case):
            cases.append(case)

        collect()
    return cases[:count]


def unary(numbers: Callable = signed) -> st.SearchStrategy[Case]:
    """One input of any shape."""
    return arrays(shapes, numbers).map(lambda x: Case((x,)))


@st.composite
def binary(draw, numbers_a: Callable = signed, numbers_b: Callable = signed) -> Case:
    """Two inputs of shapes that broadcast against each other."""
    (a, b), _ = draw(broadcastable(2))
    return Case((draw(arrays(a, numbers_a)), draw(arrays(b, numbers_b))))


@st.composite
def reduction(draw, numbers: Callable = signed) -> Case:
    """Options `axis`, of at least one entry, and `keepdims`."""
    axis, shape = draw(axis_and_solid_shape())
    return Case((draw(arrays(shape, numbers)),), {"axis": axis, "keepdims": draw(st.booleans())})


@st.composite
def along(draw, numbers: Callable = signed) -> Case:
    """Normalised over one axis of at least one entry, or several."""
    axis, shape = draw(axis_and_solid_shape(lambda ndim: axes(ndim) if ndim else st.just(())))
    return Case((draw(arrays(shape, numbers)),), {"axis": axis})
