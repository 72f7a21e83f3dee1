"""Every operation in the registry, on drawn cases: its gradients to twelve digits, and what else must hold of a rule.

A new operation is tested by adding its entry to tinygrad_lm/testing/cases.py; until then this fails.
"""

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tinygrad_lm import gradcheck
from tinygrad_lm.engine.op import Op
from tinygrad_lm.testing import op_checks
from tinygrad_lm.testing.cases import CASES, PROOFS
from tinygrad_lm.testing.drawing import seeds

OPERATIONS = sorted(Op.registry)
every_operation = pytest.mark.parametrize("name", OPERATIONS)
fewer = settings(max_examples=settings.default.max_examples // 4)


def implementations():
    """All rules, and beside them the kernels that stand in for some: what holds of a rule must hold of its kernels."""
    for name in OPERATIONS:
        op = Op.registry[name]
        yield pytest.param(name, op.rule, id=name)
        if any(device == "cpu" for device, _ in op.implementations):
            yield pytest.param(name, op.run, id=f"{name}-kernel")


every_implementation = pytest.mark.parametrize(("name", "rule"), list(implementations()))


def drawn(data, name):
    return data.draw(CASES[name], label=name), np.random.default_rng(data.draw(seeds, label="seed"))


def test_every_operation_has_cases_and_a_reference():
    assert CASES.keys() == Op.registry.keys()
    assert all(proof.reference for proof in PROOFS.values())


@pytest.mark.every
@every_implementation
@given(data=st.data())
def test_rule(name, rule, data):
    """Every check on each case: drawing one takes longer than to check it. A failure says which check it was."""
    case, rng = drawn(data, name)
    for title, check in PROOFS[name].rule_checks.items():
        note(f"check: {title}")
        check(rule, case, rng)


@every_operation
@given(data=st.data())
def test_on_tensors(name, data):
    case, rng = drawn(data, name)
    op_checks.on_tensors(Op.registry[name], case, rng)
    op_checks.one_input_twice(Op.registry[name], case, rng)


@every_operation
@fewer
@given(data=st.data())
def test_richardson_agrees(name, data):
    """A second judge: real numbers only, so it does not depend on the rules' being right on complex ones."""
    op, (case, _) = Op.registry[name], drawn(data, name)
    f, unused = lambda *xs: op(*xs, **case.options), range(len(case.inputs))
    gradcheck(f, *case.inputs, method="richardson", entries=4, allow_unused=unused, verbose=False)


@every_implementation
@fewer
@given(data=st.data())
def test_short_floats(name, rule, data):
    case, rng = drawn(data, name)
    for dtype in ("float32", "float16"):
        op_checks.precision(rule, case, rng, dtype, PROOFS[name].roundings)
