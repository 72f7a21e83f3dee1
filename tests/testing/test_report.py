"""gradcheck does not pass where a gradient of zeros would: an input without influence fails, unless it is declared."""

import numpy as np
import pytest

from tinygrad_lm import Tensor, gradcheck, nn, ops
from tinygrad_lm.errors import ConfigError, DtypeError, GradientError
from tinygrad_lm.testing.drawing import signed
from tinygrad_lm.testing.gradcheck import DERIVATIVES
from tinygrad_lm.testing.report import Report, Row

every_method = pytest.mark.parametrize("method", sorted(DERIVATIVES))
X = signed(np.random.default_rng(0), (2, 3))
few = {"verbose": False}


def test_parameters_that_are_not_passed_in_are_not_checked():
    """The call of issue 20: f ignores its arguments, and 0 = 0 says nothing about the model in it."""
    layer = nn.Linear(3, 2).initialize(seed=0)
    with pytest.raises(GradientError) as caught:
        gradcheck(lambda *parameters: layer(X.astype("float32")), *layer.parameters(), **few)
    message = str(caught.value)
    assert message.startswith(
        "gradcheck <lambda>: analytic and central derivatives agree, in part ON ZEROS ONLY, tolerance "
    )
    assert "\n ✗ input 0 (3, 2): 6 entries, " in message
    assert "\n  found: no derivative above the tolerance: input 0, input 1\n" in message
    assert "\n         the result depends on weight, bias, not passed in\n" in message


NOTHING_PROVEN = {
    "an input without influence": (lambda x, y: x * 2, (X, X), {}, "input 1"),
    "a result without influence": (lambda x: Tensor(X), (X,), {}, "input 0"),
    "an influence that cancels": (lambda x: ops.softmax(x).sum(), (X,), {}, "input 0"),
    "an empty input": (ops.exp, (np.zeros((0, 3)),), {}, "input 0"),
    "an empty result": (lambda x: x[:0], (X,), {}, "input 0"),
    "gradients of zeros": (ops.relu, (-abs(X),), {}, "input 0"),
    "an influence below the tolerance": (lambda x: x * 1e-14, (X,), {}, "input 0"),
    "a tolerance that swallows all": (lambda x: x * 0.1, (X,), {"tolerance": 0.5}, "input 0"),
}


@every_method
@pytest.mark.parametrize("name", NOTHING_PROVEN)
def test_where_zeros_would_pass_it_fails_unless_that_is_declared(name, method):
    f, inputs, options, unproven = NOTHING_PROVEN[name]
    with pytest.raises(GradientError, match=rf"ON ZEROS ONLY[^✗]+✗ {unproven} .*") as caught:
        gradcheck(f, *inputs, method=method, **options, **few)
    assert f"\n  found: no derivative above the tolerance: {unproven}\n" in str(caught.value)
    report = gradcheck(f, *inputs, method=method, allow_unused=[int(unproven[-1])], **options, **few)
    assert report.passed
    assert "derivatives agree, tolerance" in str(report)


def test_a_declared_input_is_checked_all_the_same():
    with pytest.raises(GradientError, match="DIFFER"):
        gradcheck(lambda x, y: x * Tensor.of(y.data), X, X, allow_unused=[1], **few)


def test_one_cotangent_with_an_influence_is_enough():
    rows = [Row(0, "x", (), 1, influence=0.0), Row(0, "x", (), 1, influence=0.5)]
    assert Report("f", "central", 1e-6, rows).passed
    assert not Report("f", "central", 1e-6, rows[:1]).passed


def test_no_row_is_no_proof_and_a_nan_is_the_worst():
    assert not Report("f", "central", 1e-6).passed
    for errors in ([0.0, np.nan, 2.0], [np.nan, 0.0]):
        report = Report("f", "central", 1e-6, [Row(0, "x", (), 1, error=error, influence=1.0) for error in errors])
        assert np.isnan(report.worst)
        assert not report.passed


@every_method
def test_the_entry_with_the_largest_gradient_is_among_a_few(method):
    """Of an embedding most rows have no gradient; a few entries at random would be zeros for the most part."""
    table = np.ones((50, 2))
    for seed in range(5):
        row, *_ = gradcheck(
            lambda w, ids: ops.embedding(w, ids), table, [seed], entries=1, seed=seed, method=method, **few
        ).rows
        assert (row.checked, row.place[0]) == (1, seed)


# ---- options under which nothing would be checked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cotangents": 0}, "cotangents must be at least 1, found 0"),
        ({"entries": 0}, "entries must be at least 1, or None for all, found 0"),
        ({"tolerance": 1.0}, "tolerance must be at least 0 and below 1, found 1.0"),
        ({"tolerance": float("nan")}, "tolerance must be at least 0 and below 1, found nan"),
        ({"allow_unused": [1]}, r"allow_unused must be positions below 1, found \[1\]"),
    ],
)
def test_options_that_would_check_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        gradcheck(ops.exp, X, **options, **few)


def test_inputs_that_would_not_be_checked_are_refused():
    with pytest.raises(DtypeError, match="input 1 is complex128"):
        gradcheck(ops.multiply, X, X + 1j, **few)
    with pytest.raises(DtypeError, match="no input is floating"):
        gradcheck(lambda: Tensor(X), **few)
