"""Every CPU kernel on its rule's cases: the same value and gradients, and all that must hold of a rule."""

import checks
import numpy as np
import pytest
from drawing import seeds, signed
from hypothesis import given
from hypothesis import strategies as st
from op_cases import CASES

from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels import numpy_attention

KERNELS = sorted(name for name, op in Op.registry.items() if "cpu" in op.kernels)
every_kernel = pytest.mark.parametrize("name", KERNELS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks so small that the drawn cases take several."""
    monkeypatch.setattr(numpy_attention, "ROWS", 2)


def test_there_are_kernels():
    assert "attention" in KERNELS


@every_kernel
@given(data=st.data())
def test_kernel_agrees_with_its_rule(name, data):
    op, case = Op.registry[name], data.draw(CASES[name])
    rng = np.random.default_rng(data.draw(seeds))
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        case = case.to(dtype)
        y, gradients = checks.evaluate(op.rule, case)
        found, found_gradients = checks.evaluate(op.kernels["cpu"], case)
        checks.agree(found, y, "value", tolerance)
        assert found.dtype == y.dtype
        u = signed(rng, y.shape).astype(dtype)
        for i, (dx, expected) in enumerate(zip(found_gradients(u), gradients(u), strict=True)):
            if expected is not None:
                checks.agree(dx, expected, f"gradient of input {i}", tolerance)


@every_kernel
@pytest.mark.parametrize("check", checks.CHECKS)
@given(data=st.data())
def test_kernel_is_a_rule(name, check, data):
    op, case = Op.registry[name], data.draw(CASES[name])
    checks.CHECKS[check](op.kernels["cpu"], case, np.random.default_rng(data.draw(seeds)))


def test_future_gradients_are_exactly_zero():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 7, 2, 4))
    y, backward = numpy_attention.attention_in_blocks(q, k, v)
    for t in range(7):
        dy = np.zeros_like(y)
        dy[:, t] = rng.standard_normal(dy[:, t].shape)
        _, dk, dv = backward(dy)
        assert not dk[:, t + 1 :].any()
        assert not dv[:, t + 1 :].any()
