"""Where a derivative check cannot go: ties, signed zeros, huge and tiny numbers, masks, nothing, half precision."""

from statistics import NormalDist

import numpy as np
import pytest

from tinygrad_lm import Tensor, ops
from tinygrad_lm.engine.op import Op

HUGE, TINY = 1e4, 5e-324  # exp(1e4) is far beyond float64; 5e-324 is its smallest subnormal
INF = np.inf


def value_and_gradients(name, *inputs, **options):
    leaves = [Tensor(x, requires_grad=True) if np.asarray(x).dtype.kind == "f" else Tensor(x) for x in inputs]
    y = Op.registry[name](*leaves, **options)
    y.backward(np.ones(y.shape, y.dtype))
    return y.data, *(leaf.grad for leaf in leaves if leaf.requires_grad)


def numbers(*values, dtype="float64"):
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("x", "share"),
    [
        ([1, 1], [0.5, 0.5]),
        ([1, 3, 3, 2, 3], [0, 1 / 3, 1 / 3, 0, 1 / 3]),
        ([0.0, -0.0], [0.5, 0.5]),
        ([TINY, 0], [1, 0]),
        ([-INF, -INF], [0.5, 0.5]),
        ([-INF, 1], [0, 1]),
    ],
)
def test_the_greatest_share_the_gradient_evenly(x, share):
    """Any split that sums to 1 is a subgradient; an even one is the same in whatever order the entries stand."""
    for axis, keepdims in ((None, False), (0, False), (-1, True)):
        _, dx = value_and_gradients("max", numbers(*x), axis=axis, keepdims=keepdims)
        assert np.array_equal(dx, share)


def test_the_maximum_of_equals_gives_half_to_each():
    a, b = numbers(1, 2, 0.0, 5, TINY), numbers(1, 3, -0.0, 4, 0)
    y, da, db = value_and_gradients("maximum", a, b)
    assert np.array_equal(y, [1, 3, 0, 5, TINY])
    assert np.array_equal(da, [0.5, 0, 0.5, 1, 1])
    assert np.array_equal(db, [0.5, 1, 0.5, 0, 0])


@pytest.mark.parametrize("name", ["relu", "relu_squared"])
def test_relu_at_and_beside_zero(name):
    x = numbers(0.0, -0.0, TINY, -TINY, -HUGE)
    y, dx = value_and_gradients(name, x)
    assert np.array_equal(y, [0, 0, TINY if name == "relu" else 0, 0, 0])
    assert np.array_equal(dx, [0, 0, 1 if name == "relu" else 2 * TINY, 0, 0])


def test_power_at_zero_and_at_negative_bases():
    a = Tensor(numbers(0, 0, 0, 1), requires_grad=True)
    (a ** numbers(0, 1, 2, 0)).sum().backward()
    assert np.array_equal(a.grad, [0, 1, 0, 0])  # also x⁰ = 1, a constant
    x = Tensor(numbers(INF, -INF, np.nan), requires_grad=True)
    (x**0).backward(np.ones(3))
    assert np.array_equal(x.grad, [0, 0, 0])
    _, _, db = value_and_gradients("power", numbers(0, 1), numbers(2, 5))
    assert np.array_equal(db, [0, 0])
    x = Tensor(numbers(-2, -1, 3), requires_grad=True)
    (x**3).sum().backward()  # the exponent needs no gradient, so no logarithm of a negative number is taken
    assert np.array_equal(x.grad, 3 * x.data**2)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", ["sigmoid", "silu", "tanh", "gelu", "gelu_tanh", "relu", "relu_squared"])
def test_activations_far_out(name, dtype):
    """Far from 0 they are flat or straight, and nothing overflows on the way to finding that."""
    far = {"float16": 100.0 if name == "relu_squared" else 1000.0}.get(dtype, HUGE)
    y, dx = value_and_gradients(name, numbers(far, -far, 0, dtype=dtype))
    right = {"sigmoid": (1, 0), "tanh": (1, -1), "relu_squared": (far**2, 0)}.get(name, (far, 0))
    slope = {"sigmoid": (0, 0), "tanh": (0, 0), "relu_squared": (2 * far, 0)}.get(name, (1, 0))
    assert np.array_equal(y[:2], right)
    assert np.array_equal(dx[:2], slope)
    assert y.dtype == dx.dtype == dtype


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_gelu_over_its_whole_range(dtype):
    """Its erf is a series; here against Python's own, between the places where it is 0 and 1."""
    x = np.linspace(-9, 9, 181).astype(dtype)
    y, dx = value_and_gradients("gelu", x)
    normal = NormalDist()
    eps = np.finfo(dtype).eps
    value, slope = zip(*((v * normal.cdf(v), normal.cdf(v) + v * normal.pdf(v)) for v in x.tolist()), strict=True)
    np.testing.assert_allclose(y, value, rtol=20 * eps, atol=50 * eps)
    np.testing.assert_allclose(dx, slope, rtol=20 * eps, atol=50 * eps)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    ("x", "p"),
    [
        ([HUGE, -HUGE, 0], [1, 0, 0]),
        ([HUGE, HUGE], [0.5, 0.5]),
        ([-HUGE, -HUGE], [0.5, 0.5]),
        ([-INF, 3, -INF], [0, 1, 0]),
        ([2, -INF, 2], [0.5, 0, 0.5]),
        ([TINY, -0.0], [0.5, 0.5]),
        ([7], [1]),
    ],
)
def test_softmax_and_its_relations_with_huge_numbers_and_masks(x, p, dtype):
    """Masked entries are −inf; one unmasked entry is enough."""
    x, p = np.array(x).astype(dtype), np.array(p)
    y, dx = value_and_gradients("softmax", x)
    assert np.array_equal(y, p)
    assert not dx.any()
    y, dx = value_and_gradients("logsumexp", x)
    np.testing.assert_allclose(y, x.max() + np.log((p > 0).sum()), rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(dx, p, rtol=2 * np.finfo(dtype).eps)
    y, dx = value_and_gradients("log_softmax", x)
    np.testing.assert_allclose(np.exp(y), p, rtol=2 * np.finfo(dtype).eps)
    assert np.isfinite(dx).all()
    target = int(np.argmax(p))
    y, dx = value_and_gradients("cross_entropy", x[None], np.array([target]))
    np.testing.assert_allclose(y, -np.log(p[target]), rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(dx[0], p - (np.arange(len(p)) == target), rtol=2 * np.finfo(dtype).eps)


def test_cross_entropy_of_a_certain_mistake_is_large_but_finite():
    y, dx = value_and_gradients("cross_entropy", numbers(HUGE, -HUGE)[None], np.array([1]))
    assert y == 2 * HUGE
    assert np.array_equal(dx, [[1, -1]])


@pytest.mark.parametrize("targets", [[-100, -100], []])
def test_cross_entropy_of_no_position_is_zero(targets):
    y, dx = value_and_gradients("cross_entropy", np.ones((len(targets), 3)), np.array(targets, int))
    assert y == 0
    assert not dx.any()


def test_attention_with_huge_scores_picks_one_key():
    q, k = np.full((1, 2, 1, 1), HUGE), numbers(-HUGE, HUGE).reshape(1, 2, 1, 1)
    v = numbers(1, 2).reshape(1, 2, 1, 1)
    y, dq, dk, dv = value_and_gradients("attention", q, k, v, causal=False)
    assert np.array_equal(y.ravel(), [2, 2])
    assert np.array_equal(dv.ravel(), [0, 2])
    assert not dq.any()
    assert not dk.any()


def test_no_visible_key_scores_lower_than_a_masked_one():
    """−1e9 for −∞ is a popular mask. Against a score of −1e12 it would win."""
    q, k = np.full((1, 2, 1, 1), 1e6), np.full((1, 2, 1, 1), -1e6)
    v = numbers(1, 2).reshape(1, 2, 1, 1)
    assert np.array_equal(ops.attention.rule(q, k, v)[0].ravel(), [1, 1.5])
    assert np.array_equal(ops.attention(q, k, v).data.ravel(), [1, 1.5])  # by the kernel, where there is one


def test_no_visible_key_scores_lower_than_one_of_another_document():
    q, k = np.full((1, 3, 1, 1), 1e6), np.array([1e6, -1e6, -1e6]).reshape(1, 3, 1, 1)
    v, starts = numbers(1, 2, 4).reshape(1, 3, 1, 1), np.array([[0, 1, 1]])
    y, *_, dv = value_and_gradients("attention", q, k, v, document_starts=starts)
    assert np.array_equal(y.ravel(), [1, 2, 3])
    assert np.array_equal(dv.ravel(), [1, 1.5, 0.5])
    assert np.array_equal(ops.attention.rule(q, k, v, document_starts=starts)[0].ravel(), y.ravel())
    assert np.array_equal(ops.attention(q, k, v, document_starts=starts).data.ravel(), y.ravel())


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_of_constant_zero_and_huge_rows(name):
    """eps keeps a row without variance finite; squares of huge half-precision numbers are taken in float32."""
    for row in ([0.0, 0, 0], [2.0, 2, 2], [TINY, -TINY, 0]):
        y, dx = value_and_gradients(name, np.array([row]))
        assert np.isfinite(y).all()
        assert np.isfinite(dx).all()
    y, dx = value_and_gradients(name, np.array([[HUGE, -HUGE, HUGE, -HUGE]], "float16"))
    assert np.array_equal(y, [[1, -1, 1, -1]])
    assert np.isfinite(dx).all()


def test_a_long_half_precision_mean_does_not_overflow():
    x = np.full(100_000, 100.0, "float16")  # the sum, 1e7, is beyond float16
    y, dx = value_and_gradients("mean", x)
    assert y == 100
    assert np.array_equal(np.unique(dx), [np.float16(1e-5)])


def test_the_loss_of_half_precision_logits_has_seven_digits():
    """float16 has three: near a loss of 10 the next one is 0.008 away. The gradient goes on in the logits' dtype."""
    x = (3 * np.random.default_rng(0).standard_normal((20, 50))).astype("float16")
    y, backward = ops.cross_entropy.run(x, np.arange(20))
    right, back = ops.cross_entropy.rule(x.astype("float64"), np.arange(20))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, right, rtol=1e-6)
    dx = backward(np.float32(1000))[0]()
    assert dx.dtype == "float16"
    np.testing.assert_allclose(dx, back(1000.0)[0], rtol=1e-3, atol=1e-6)


def test_embedding_adds_a_row_for_every_time_its_token_occurs():
    w, ids = np.zeros((3, 2)), np.array([[1, 1], [0, 1]])
    _, dw = value_and_gradients("embedding", w, ids)
    assert np.array_equal(dw, [[1, 1], [3, 3], [0, 0]])


@pytest.mark.parametrize("index", [[0, 0, -3], (0, 0, -3), np.array([0, 0, -3]), range(-3, 3, 3)])
def test_an_entry_taken_twice_gets_both_gradients(index):
    """However the index is written: NumPy takes any sequence within a tuple for an array."""
    times = len(index)
    _, dx = value_and_gradients("getitem", np.ones((3, 2)), index=(index, slice(None)))
    assert np.array_equal(dx, [[times, times], [0, 0], [0, 0]])


def test_numbers_adapt_to_the_floating_input_wherever_it_stands():
    for dtype in ("float32", "float64"):
        x = Tensor(np.ones(3, dtype), requires_grad=True)
        for y in (ops.where([True, False, True], x, 0), ops.where(np.array([1, 0, 1]) > 0, 2.5, x), x**2, 2 / x, 1 - x):
            assert y.dtype == dtype
