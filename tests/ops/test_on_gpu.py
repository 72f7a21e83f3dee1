"""Every operation on CuPy arrays, forth and back: the same numbers as on the CPU but for rounding."""

import numpy as np
import pytest
from cuda_checks import gpu
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm import Tensor
from tinygrad_lm.engine.op import Op
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed

pytestmark = pytest.mark.gpu
fewer = settings(max_examples=settings.default.max_examples // 4)


@pytest.fixture(scope="module")
def cupy():
    return gpu()


def computed(op, case, u, place):
    """Value and gradients, all arrays put where `place` puts them."""
    leaves = [Tensor(place(x.copy("C")), requires_grad=x.dtype.kind == "f") for x in case.inputs]
    y = op(*leaves, **case.options)
    y.backward(place(u))
    return y.data, *(leaf.grad for leaf in leaves if leaf.grad is not None)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", sorted(Op.registry))
@fewer
@given(data=st.data())
def test_every_operation_is_the_same_there(cupy, name, dtype, tolerance, data):
    op, case = Op.registry[name], data.draw(CASES[name]).to(dtype)
    if case.options.get("device"):
        case.options = {}  # `to` moves; tests/ops/test_strict_array.py looks at that
    u = signed(np.random.default_rng(data.draw(seeds)), op.rule(*case.inputs, **case.options)[0].shape).astype(dtype)
    here, there = computed(op, case, u, np.asarray), computed(op, case, u, cupy.asarray)
    for i, (host, device) in enumerate(zip(here, there, strict=True)):
        assert type(device) is cupy.ndarray
        assert device.dtype == host.dtype
        checks.agree(device.get(), host, f"gradient {i - 1}" if i else "value", tolerance)
