"""prove, the proof in one call: right operations pass it, and each kind of mistake is told in words."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from slow import first_of_each

from tinygrad_lm import ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, GradientError
from tinygrad_lm.testing import Case, arrays, binary, prove, unary
from tinygrad_lm.testing.checks import CHECKS
from tinygrad_lm.testing.mutants import GENERIC
from tinygrad_lm.testing.op_checks import OP_CHECKS
from tinygrad_lm.testing.references import each

ROOT = Path(__file__).parents[2]
few = {"examples": 10, "verbose": False}


@pytest.fixture(autouse=True)
def registry():
    """Operations of these tests leave no trace."""
    before = dict(Op.registry)
    yield
    for name in Op.registry.keys() - before.keys():
        del Op.registry[name]
    Op.registry.update(before)


def exp(x):
    return np.exp(x), lambda dy: (dy * np.exp(x),)


def product(a, b, *, times=1.0):
    return times * a * b, lambda dy: (times * dy * b, times * dy * a)


# ---- right ones


@pytest.mark.slow
def test_it_runs_every_check_and_plants_every_mutant(capsys):
    report = prove(Op(exp), unary(), each(math.exp), examples=20, checks={"a law": lambda rule, case, rng: None})
    assert set(report.checks) == CHECKS.keys() | OP_CHECKS.keys() | {"value", "a law", "float32", "float16"}
    assert report.mutants.keys() == GENERIC.keys()
    assert {title for title, noticed in report.mutants.items() if noticed is None} == {
        "second gradient zero",
        "gradients swapped",
    }
    assert report.survivors == []
    assert capsys.readouterr().out == f"{report}\n"
    assert "25 of 25 wrong gradients noticed" in str(report)
    assert re.search(r"× \(1 \+ 1e-9\) +every entry, adjoint\n", str(report))
    assert re.search(r"gradients swapped +\(changes nothing here\)\n", str(report))


@pytest.mark.slow
def test_an_operation_of_the_package_needs_its_name_alone():
    assert "ties" in prove(ops.max, **few).checks


@pytest.mark.slow
def test_a_strategy_may_draw_arrays_tuples_or_cases():
    prove(Op(product), st.tuples(arrays((2, 3)), arrays((3,))), **few)
    with_options = st.builds(lambda a, b: Case((a, b), {"times": 3.0}), arrays((2, 2)), arrays((2, 2)))
    prove(Op(product), with_options, lambda a, b, times: times * np.multiply(a, b), **few)


@pytest.mark.slow
def test_a_rule_without_complex_numbers_is_compared_with_real_differences():
    erf = np.vectorize(math.erf, otypes=[float])

    def absolute(x):
        return np.abs(x), lambda dy: (dy * np.sign(x),)

    def error_function(x):
        return erf(x).astype(x.dtype), lambda dy: (dy * 2 / math.sqrt(math.pi) * np.exp(-x * x),)

    def barely_wrong(x):
        return erf(x).astype(x.dtype), lambda dy: (dy * (2 + 1e-8) / math.sqrt(math.pi) * np.exp(-x * x),)

    prove(Op(error_function), unary(), analytic=False, **few)
    for rule in (absolute, error_function):
        with pytest.raises(GradientError, match=r"hint : real differences agree with the gradient"):
            prove(Op(rule), unary(), **few)
    with pytest.raises(GradientError, match='"every entry" does not hold') as caught:
        prove(Op(barely_wrong), unary(), analytic=False, **few)
    assert "hint" not in str(caught.value)


# ---- mistakes, told in words


def one_output(x):
    return np.exp(x)


def no_tuple(x):
    return np.exp(x), lambda dy: dy * np.exp(x)


def no_result(x):
    return np.exp(x), lambda dy: None


def too_few(a, b):
    return a * b, lambda dy: (dy * b,)


def a_number(x):
    return x * 1, lambda dy: (1.0,)


def another_shape(x):
    return x * 1, lambda dy: (np.ones((2, 3, 4, 5), dy.dtype),)


def float64_alone(x):
    return np.exp(x) * np.float64(1), lambda dy: (dy * np.exp(x),)


def wrong(x):
    return np.exp(x), lambda dy: (dy * np.exp(-x),)


def swapped(a, b):
    return a / b, lambda dy: (-dy * a / b / b, dy / b)


def writes_on_dy(x):
    y = np.exp(x)

    def backward(dy):
        dy *= y
        return (dy,)

    return y, backward


def writes_on_x(x):
    y = np.exp(x)
    if x.dtype.kind == "f" and x.flags.writeable:
        x += 1
    return y, lambda dy: (dy * y,)


def by_memory(x):
    """Wrong where the cotangent is not contiguous."""
    y = np.exp(x)
    return y, lambda dy: (dy * y * (1 if dy.flags.c_contiguous or dy.flags.f_contiguous else 1.01),)


def hides_nan(x):
    return np.where(x.real > 0, x, 0), lambda dy: (dy * (x.real > 0),)


def cancels(x):
    return (x + 1000) - 1000, lambda dy: (dy,)


def idle(a, b):
    return a * 1 + 0 * b, lambda dy: (dy, 0 * dy)


def flat(x):
    return 1e-13 * np.exp(x), lambda dy: (1e-13 * dy * np.exp(x),)


MISTAKES = [
    (one_output, unary(), "contract", "the rule returned an array of shape ()"),
    (no_tuple, unary(), "contract", "backward returned an array of shape (); expected a tuple"),
    (no_result, unary(), "contract", "backward returned None; expected a tuple"),
    (too_few, binary(), "contract", "backward returned a tuple of 1 gradients; expected 2"),
    (a_number, unary(), "contract", "a gradient is a float: 1.0; expected an array, or None"),
    (another_shape, arrays((3,)), "contract", "ShapeError: "),
    (float64_alone, arrays((3,)), "contract", "the value is float64 for float32 inputs"),
    (wrong, unary(), "every entry", " is right, error "),
    (swapped, binary(), "every entry", "gradient of input 0: at ["),
    (writes_on_dy, unary(), "unchanged", "read-only"),
    (writes_on_x, unary(), "unchanged", "input 0, before and after"),
    (by_memory, arrays((2, 4)), "any layout", "under a cotangent of layout"),
    (hides_nan, unary(), "nan comes out", "a NaN in input 0 at "),
    (cancels, unary(), "float32", "eps × condition in float32"),
]


@pytest.mark.parametrize(
    ("rule", "strategy", "check", "found"),
    first_of_each(MISTAKES, lambda mistake: mistake[2] == "contract"),
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_mistake_is_named(rule, strategy, check, found):
    with pytest.raises(GradientError) as caught:
        prove(Op(rule), strategy, examples=30, verbose=False)
    message = str(caught.value)
    assert message.startswith(f'prove {rule.__name__}: "{check}" does not hold\n  rule : ')
    assert found in message
    assert re.search(r"\n  (a|x)    : \(.*\) float64 ", message)  # the input, as the rule calls it


@pytest.mark.slow
def test_the_smallest_input_is_shown():
    def for_three(x):
        return np.exp(x), lambda dy: (dy * np.exp(x) * (1 if x.size < 3 else 1.01),)

    with pytest.raises(GradientError, match=r"\n  x    : \(3,\) float64 "):
        prove(Op(for_three), st.integers(1, 12).flatmap(lambda n: arrays((n,))), verbose=False)


@pytest.mark.slow
def test_a_wrong_value_is_found_by_its_reference_alone():
    with pytest.raises(GradientError, match=r'"value" does not hold\n  rule : The value is the reference'):
        prove(Op(exp), unary(), lambda x: np.exp(x) * (1 + 1e-9), **few)


@pytest.mark.slow
def test_a_law_of_the_users_own():
    def law(rule, case, rng):
        """exp is at most 1."""
        assert np.all(rule(*case.inputs)[0] <= 1), "it is more"

    with pytest.raises(GradientError, match=r'"a law" does not hold\n  rule : exp is at most 1\.\n  found: it is more'):
        prove(Op(exp), unary(), checks={"a law": law}, **few)


@pytest.mark.slow
def test_an_input_without_influence():
    with pytest.raises(GradientError, match="prove idle: b has no influence on the value, in none of 60 drawn cases"):
        prove(Op(idle), binary(), **few)


@pytest.mark.slow
def test_mutants_that_live():
    """Gradients of 1e-13 are below what any check resolves."""
    with pytest.raises(GradientError, match=r"would for a wrong gradient, too\n.*\n  found: unnoticed .*'× 1.01'"):
        prove(Op(flat), unary(), **few)


def test_what_cannot_be_proven_is_refused():
    with pytest.raises(ConfigError, match="expected an operation, found <function exp"):
        prove(exp, unary())
    with pytest.raises(ConfigError, match=r"prove product: .* strategy is needed"):
        prove(Op(product))


NOTHING = lambda rule, case, rng: None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": {"every entry": NOTHING}}, r"checks must be a law of its own, .*, found \['every entry'\]"),
        ({"checks": {"float16": NOTHING}}, r"checks must be a law of its own, .*, found \['float16'\]"),
        ({"roundings": math.inf}, "roundings must be above 0 and below 1024, .*, found inf"),
        ({"examples": 0}, "examples must be at least 1, found 0"),
    ],
    ids=["every entry", "float16", "roundings", "examples"],
)
def test_options_that_would_switch_a_check_off_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        prove(Op(exp), unary(), **options)


@pytest.mark.parametrize("name", ["reference", "checks", "roundings"])
def test_an_option_that_the_entry_would_override_is_refused(name):
    with pytest.raises(ConfigError, match="prove max: without a strategy, reference, checks and roundings"):
        prove(ops.max, **{name: {"reference": max, "checks": {"a law": NOTHING}, "roundings": 3}[name]}, **few)


# ---- the page


def blocks(page):
    return re.findall(r"```(\w*)\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_page_says_what_happens(capsys):
    """Its programs run, one after the other, and what it shows of their output is what they print."""
    shown = blocks(ROOT / "docs" / "proving.md")
    right, wrong, module = (text for kind, text in shown if kind == "python")
    report, error, of_module, _ = (text for kind, text in shown if not kind)
    names = {}
    exec(right, names)
    printed = capsys.readouterr().out
    for line in report.splitlines():
        assert line.removesuffix(" …") in printed
    with pytest.raises(GradientError) as caught:
        exec(wrong, names)
    assert str(caught.value).splitlines()[:2] == error.splitlines()[:2]
    assert str(caught.value).splitlines()[2].startswith("  found: gradient of input 0: at [] ")
    exec(wrong.partition("\n\n\nprove(")[0], names)
    with pytest.raises(GradientError) as caught:
        exec(module, names)
    for line, printed in zip(of_module.splitlines(), str(caught.value).splitlines(), strict=True):
        if "✗" in line:
            assert re.sub(r"(\d\.\d{4})\d+", r"\1", printed).startswith(line)
        else:  # the numbers are those of rounding
            assert printed.startswith(line.partition(" entries")[0])


# ---- Hypothesis


def python(program):
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_only_the_proof_needs_hypothesis():
    ended = python(
        "import sys; sys.modules['hypothesis'] = None; import tinygrad_lm; from tinygrad_lm.testing import prove"
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "ImportError: tinygrad_lm.testing draws its inputs with Hypothesis, which is missing; "
        "get it with: pip install 'tinygrad-lm[test]'"
    )
