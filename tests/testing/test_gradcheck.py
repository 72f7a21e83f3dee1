"""gradcheck, the public judge: it agrees with right rules, says where wrong ones are wrong, and how exact it is."""

import re

import numpy as np
import pytest

from tinygrad_lm import Tensor, gradcheck, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError, DtypeError, GradientError
from tinygrad_lm.testing.drawing import signed
from tinygrad_lm.testing.gradcheck import DERIVATIVES, TOLERANCE, hessian_vector_product

METHODS = sorted(DERIVATIVES)
rng = np.random.default_rng(0)
X, W = signed(rng, (2, 3)), signed(rng, (3, 4))


@pytest.fixture
def op(monkeypatch):
    """@op for a test's own rules: it leaves no trace in the registry."""
    monkeypatch.setattr(Op, "registry", {})
    return Op


@pytest.fixture
def wrong_exp(op):
    """exp whose gradient is wrong at one place, by one part in a million."""

    def wrong(x):
        """y = exp x        dx = dy y, but not quite

        x: any shape
        """
        y = np.exp(x)
        slip = np.ones(x.shape)
        slip[1, 2] += 1e-6
        return y, lambda dy: (dy * y * slip,)

    return op(wrong)


# ---- verdicts


@pytest.mark.parametrize("method", METHODS)
def test_it_agrees_with_right_rules(method, capsys):
    report = gradcheck(lambda x, w: ops.gelu(x @ w), X, W, method=method)
    assert report.passed
    assert report.worst <= report.tolerance == TOLERANCE[method]
    assert capsys.readouterr().out == f"{report}\n"
    assert "derivatives agree" in str(report)
    assert "input 1 (3, 4): 12 entries" in str(report)


@pytest.mark.parametrize("method", ["richardson", "complex"])
def test_it_names_operation_input_place_and_both_numbers_where_they_differ(method, wrong_exp):
    with pytest.raises(GradientError) as caught:
        gradcheck(wrong_exp, X, method=method, verbose=False)
    message = str(caught.value)
    assert message.startswith(
        f"gradcheck wrong: analytic and {method} derivatives DIFFER, tolerance {TOLERANCE[method]:g}"
    )
    numbers = r"analytic (\S+)  numerical (\S+)  relative error (\S+) \(numerical side"
    found = re.search(r"✗ input 0 \(2, 3\): 6 entries, worst at \[1, 2\]: " + numbers, message)
    analytic, numerical, error = map(float, found.groups())
    assert analytic / numerical == pytest.approx(1 + 1e-6, rel=1e-9)
    assert 1e-8 < error <= 1e-6  # relative to the largest entry, which this one need not be


def test_what_the_central_difference_cannot_see_the_others_can(wrong_exp):
    def off_by(size):
        def slightly(x):
            """y = exp x        dx = (1 + size) dy y

            x: any shape
            """
            return np.exp(x), lambda dy: (dy * np.exp(x) * (1 + size),)

        return Op(slightly)

    for size, blind in ((1e-8, {"central"}), (3e-11, {"central", "richardson"}), (1e-4, set()), (1e-14, set(METHODS))):
        for method in METHODS:
            if method in blind:
                assert gradcheck(off_by(size), X, method=method, verbose=False).passed
            else:
                with pytest.raises(GradientError):
                    gradcheck(off_by(size), X, method=method, verbose=False)


def test_random_cotangents_see_what_a_plain_sum_cannot(op):
    """The gradient of softmax's sum is 0. A rule that always says 0 is found only because u is not 1 everywhere."""

    def nothing(x):
        """y = softmax x        dx = 0

        x: any shape
        """
        return ops.softmax.rule(x)[0], lambda dy: (np.zeros_like(dy),)

    rule = op(nothing)
    assert gradcheck(lambda x: rule(x).sum(), X, method="complex", allow_unused=[0], verbose=False).passed
    with pytest.raises(GradientError):
        gradcheck(rule, X, method="complex", verbose=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_is_no_agreement(op, method):
    def nan(x):
        """y = x        dx = NaN

        x: any shape
        """
        return x * 1, lambda dy: (dy * np.nan,)

    with pytest.raises(GradientError, match="nan"):
        gradcheck(op(nan), X, method=method, verbose=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_does_not_arrive_counts_as_zero(method):
    with pytest.raises(GradientError, match="input 1"):
        gradcheck(lambda x, y: x * Tensor.of(y.data), X, X, method=method, verbose=False)
    assert gradcheck(lambda x, y: x * 2, X, X, method=method, allow_unused=[1], verbose=False).passed


# ---- inputs and options


def test_integers_are_passed_on_and_floats_are_checked_in_float64():
    def f(w, ids):
        assert ids.dtype == "int64"
        assert w.dtype in ("float64", "complex128")
        return ops.embedding(w, ids)

    report = gradcheck(f, X.astype("float32"), [1, 0, 1], method="complex", verbose=False)
    assert [row.input for row in report.rows] == [0]
    with pytest.raises(DtypeError, match="no input is floating"):
        gradcheck(f, [1, 2], verbose=False)


def test_entries_and_cotangents_say_how_much_is_checked(wrong_exp):
    rows = gradcheck(ops.multiply, X, X, entries=4, cotangents=3, method="complex", verbose=False).rows
    assert [(row.input, row.checked) for row in rows] == [(0, 4), (1, 4)] * 3
    assert gradcheck(ops.exp, X, entries=99, verbose=False).rows[0].checked == 6
    verdicts = set()
    for seed in range(20):  # with two entries of six it depends on luck, and the luck on the seed
        try:
            verdicts.add(gradcheck(wrong_exp, X, entries=2, seed=seed, method="complex", verbose=False).passed)
        except GradientError:
            verdicts.add(False)
    assert verdicts == {True, False}


def test_numbers_tensors_and_empty_arrays_can_be_inputs():
    empty = np.zeros((0, 3))
    gradcheck(lambda a, b, c: a * b + c.sum(), 2.0, Tensor(X), empty, allow_unused=[2], verbose=False)
    assert gradcheck(ops.exp, empty, allow_unused=[0], verbose=False).worst == 0


def test_a_tolerance_can_be_chosen_and_an_unknown_method_is_refused(wrong_exp):
    assert gradcheck(wrong_exp, X, method="complex", tolerance=1e-5, verbose=False).passed
    with pytest.raises(ConfigError, match="central, richardson, complex"):
        gradcheck(ops.exp, X, method="magic")


def test_inputs_are_left_as_they_are():
    x = X.copy()
    x.flags.writeable = False
    leaf = Tensor(x, requires_grad=True)
    for method in METHODS:
        gradcheck(ops.exp, leaf, method=method, verbose=False)
    assert np.array_equal(x, X)
    assert leaf.grad is None


# ---- as exact as it says


@pytest.mark.parametrize(
    ("method", "floor", "ceiling"), [("central", 1e-11, 1e-8), ("richardson", 1e-16, 1e-12), ("complex", 0, 1e-15)]
)
def test_the_methods_are_as_exact_as_the_docstring_says(method, floor, ceiling):
    """The worst relative error over the derivatives of several functions at several places."""
    functions = [(np.exp, np.exp), (np.tanh, lambda x: 1 / np.cosh(x) ** 2), (np.log, lambda x: 1 / x)]
    errors = []
    for f, derivative in functions:
        for x in np.linspace(0.5, 3, 11):
            found, uncertainty = DERIVATIVES[method](lambda place, step, f=f, x=x: f(x + step), (), x)
            errors.append(abs(found - derivative(x)) / max(1, abs(derivative(x))))
            assert uncertainty < 1e-8
    assert floor <= max(errors) <= ceiling


@pytest.mark.parametrize("n", [1, 3, 7, 11])
def test_six_levels_of_richardson_are_exact_for_polynomials_up_to_degree_12(n):
    """Each level cancels one even power of h, so that only rounding is left, however long the step."""
    x = 0.7
    found, uncertainty = DERIVATIVES["richardson"](lambda place, step: (x + step) ** n, (), x, h=0.5, levels=6)
    assert found == pytest.approx(n * x ** (n - 1), rel=1e-13)
    assert uncertainty < 1e-8


# ---- second order


def analytic_cases():
    """f, and its Hessian at x written down by hand."""
    x = signed(np.random.default_rng(1), (4,))
    m = signed(np.random.default_rng(2), (4, 4))
    p = np.exp(x) / np.exp(x).sum()
    t = np.tanh(x)
    return {
        "x³": (lambda z: (z**3).sum(), x, np.diag(6 * x)),
        "xᵀMx": (lambda z: (z.reshape(1, 4) @ m @ z.reshape(4, 1)).sum(), x, m + m.T),
        "log Σ exp": (lambda z: ops.logsumexp(z), x, np.diag(p) - np.outer(p, p)),
        "tanh": (lambda z: ops.tanh(z).sum(), x, np.diag(-2 * t * (1 - t * t))),
        "linear": (lambda z: (z * 3.0).sum(), x, np.zeros((4, 4))),
    }


@pytest.mark.parametrize("name", analytic_cases())
def test_hessian_vector_products_are_exact(name):
    f, x, hessian = analytic_cases()[name]
    if name == "xᵀMx":
        m = (hessian / 2).astype(complex)
        f = lambda z: (z.reshape(1, 4) @ m @ z.reshape(4, 1)).sum()
    for v in [*np.eye(4), signed(rng, (4,))]:
        found = hessian_vector_product(f, x, v)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, hessian @ v, rtol=1e-13, atol=1e-13)


def block(z):
    """A little of everything: attention between two norms, and a loss."""
    h = ops.layer_norm(z)
    y = ops.attention(ops.rotary(h.reshape(1, 3, 2, 4)), h.reshape(1, 3, 2, 4) * h.mean(), h.reshape(1, 3, 2, 4))
    h = ops.rms_norm(ops.gelu(y.reshape(3, 8)) + z)
    return ops.cross_entropy(h * 2.0, np.array([1, -100, 7]))


COMPOSITIONS = {
    "a block of a transformer": (block, (3, 8)),
    "layer norm": (lambda z: (ops.layer_norm(z) ** 3).sum(), (3, 4)),
    "cross-entropy": (lambda z: ops.cross_entropy(z * z, np.array([0, 2, 2])), (3, 4)),
    "attention": (lambda z: (ops.attention(z[:1], z[1:2], z[2:]) ** 2).sum(), (3, 2, 2, 2)),
    "softmax": (lambda z: (ops.softmax(z) * ops.log_softmax(z)).sum(), (3, 4)),
    "silu, gelu": (lambda z: (ops.silu(z) * ops.gelu_tanh(z) * ops.gelu(z)).sum(), (5,)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_the_hessian_is_symmetric(name):
    """⟨u, Hv⟩ = ⟨v, Hu⟩: H is the derivative of the backward pass, and only of a gradient is it symmetric."""
    f, shape = COMPOSITIONS[name]
    x, u, v = (signed(rng, shape) for _ in range(3))
    hu, hv = hessian_vector_product(f, x, u), hessian_vector_product(f, x, v)
    size = np.linalg.norm(u) * np.linalg.norm(hv) + 1
    assert abs((u * hv).sum() - (v * hu).sum()) <= 1e-13 * size
    assert abs(hv).max() > 1e-3
    step = 1e-5  # and it is the derivative of the gradient
    gradient = []
    for sign in (1, -1):
        z = Tensor(x + sign * step * v, requires_grad=True)
        f(z).backward()
        gradient.append(z.grad)
    np.testing.assert_allclose((gradient[0] - gradient[1]) / (2 * step), hv, atol=1e-7 * size, rtol=1e-6)
