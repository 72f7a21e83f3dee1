"""What mathematics says of these operations and their gradients, beyond being right to twelve digits."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm import Tensor, no_grad, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.ops.rotary import angles
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed


def near(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def gradients(f, *arrays, u=None):
    """f's value, the cotangent, and the gradients of Σ u f."""
    leaves = [Tensor(x, requires_grad=np.asarray(x).dtype.kind == "f") for x in arrays]
    y = f(*leaves)
    u = signed(np.random.default_rng(0), y.shape) if u is None else u
    y.backward(u)
    return y.data, u, [leaf.grad for leaf in leaves]


def drawn(name):
    return given(case=CASES[name])


# ---- sums that must vanish


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(data=st.data())
def test_gradients_of_a_softmax_sum_to_zero(name, data):
    """Adding a number to all of x changes nothing, so the gradient has no part along 1."""
    case = data.draw(CASES[name])
    _, _, (dx,) = gradients(lambda x: Op.registry[name](x, **case.options), *case.inputs)
    near(dx.sum(case.options["axis"]), 0)


@drawn("softmax")
def test_softmax_is_a_distribution(case):
    y = ops.softmax(*case.inputs, **case.options).data
    assert (y >= 0).all()
    near(y.sum(case.options["axis"]), 1)


@pytest.mark.parametrize("name", ["cross_entropy", "log_probability"])
@given(case=CASES["log_probability"])
def test_rows_of_gradients_by_logits_sum_to_zero(name, case):
    near(gradients(lambda *xs: Op.registry[name](*xs, **case.options), *case.inputs)[2][0].sum(-1), 0)


@drawn("layer_norm")
def test_layer_norm_forgets_shift_and_its_gradient_sums_to_zero(case):
    y, _, (dx, *_) = gradients(lambda *xs: ops.layer_norm(*xs, **case.options), *case.inputs)
    near(dx.sum(-1), 0)
    x, *weights = case.inputs
    np.testing.assert_allclose(ops.layer_norm(x + 1.0, *weights, **case.options).data, y, atol=1e-11)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@given(case=CASES["layer_norm"], factor=st.sampled_from([0.5, 3.0]))
def test_norms_forget_scale(name, case, factor):
    """f(ax) = f(x), so its gradient at ax is 1/a of that at x, and has no part along x (Euler). With eps = 0."""
    x = case.inputs[0] if case.inputs[0].shape[-1] > 1 else case.inputs[0] + 2.0
    if name == "layer_norm" and x.shape[-1] == 1:
        return  # one channel less its mean is nothing to scale
    f = lambda x: Op.registry[name](x, eps=0.0)
    y, u, (dx,) = gradients(f, x)
    scaled, _, (dscaled,) = gradients(f, x * factor, u=u)
    near(scaled, y)
    near(dscaled * factor, dx)
    near((x * dx).sum(-1), 0)


# ---- attention


@drawn("attention")
def test_no_gradient_comes_from_the_future(case):
    """The gradient of output t by keys, values and queries of other times is zero, not nearly: bitwise."""
    f = lambda *xs: ops.attention(*xs, **case.options | {"causal": True, "document_starts": None})
    q, k, v = (x.copy("C") for x in case.inputs)  # BLAS rounds by layout; the keys below are copies in this one
    if q.shape[1] > k.shape[1]:
        return
    y = f(q, k, v).data
    for t in range(q.shape[1]):
        last = k.shape[1] - q.shape[1] + t  # the key at t's own place
        u = np.zeros_like(y)
        u[:, t] = signed(np.random.default_rng(t), u[:, t].shape)
        _, _, (dq, dk, dv) = gradients(f, q, k, v, u=u)
        assert not dk[:, last + 1 :].any()
        assert not dv[:, last + 1 :].any()
        assert not np.delete(dq, t, axis=1).any()
        later = np.arange(k.shape[1])[:, None, None] > last
        same = f(q, np.where(later, k + 5.0, k), np.where(later, -v, v)).data
        assert np.array_equal(same[:, t], y[:, t])


@drawn("attention")
def test_no_gradient_comes_from_another_document(case):
    """Keys and values before a query's start have no gradient from its output, and no effect on it: bitwise."""
    f, starts = lambda *xs: ops.attention(*xs, **case.options), case.options["document_starts"]
    if starts is None:
        return
    q, k, v = (x.copy("C") for x in case.inputs)
    y = f(q, k, v).data
    for b, t in np.ndindex(starts.shape):
        u = np.zeros_like(y)
        u[b, t] = signed(np.random.default_rng(t), u[b, t].shape)
        _, _, (_, dk, dv) = gradients(f, q, k, v, u=u)
        assert not dk[b, : starts[b, t]].any()
        assert not dv[b, : starts[b, t]].any()
        before = np.arange(k.shape[1])[:, None, None] < starts[b, t]
        assert np.array_equal(f(q, np.where(before, k + 5.0, k), np.where(before, -v, v)).data[b, t], y[b, t])
        if not case.options["p"]:  # and its own start has one
            assert dv[b, starts[b, t]].any()


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4), heads=st.sampled_from([(2, 2), (4, 2)]), seed=seeds)
def test_packed_documents_are_as_alone(lengths, heads, seed):
    (H, G), rng, ends = heads, np.random.default_rng(seed), np.cumsum(lengths)
    q, k, v = (signed(rng, (1, ends[-1], n, 3)) for n in (H, G, G))
    starts = np.repeat(ends - lengths, lengths)[None]
    y, u, packed = gradients(lambda *xs: ops.attention(*xs, document_starts=starts), q, k, v)
    for n, end in zip(lengths, ends, strict=True):
        here = slice(end - n, end)
        alone, _, grads = gradients(ops.attention, q[:, here], k[:, here], v[:, here], u=u[:, here])
        near(y[:, here], alone)
        for dx, expected in zip(packed, grads, strict=True):
            near(dx[:, here], expected)


@drawn("attention")
def test_grouped_queries_are_repeated_key_heads(case):
    q, k, v = case.inputs
    options, R = case.options | {"p": 0.0}, q.shape[2] // k.shape[2]
    y, u, (dq, dk, dv) = gradients(lambda *xs: ops.attention(*xs, **options), q, k, v)
    many = [q, np.repeat(k, R, 2), np.repeat(v, R, 2)]
    repeated, _, (dq_many, dk_many, dv_many) = gradients(lambda *xs: ops.attention(*xs, **options), *many, u=u)
    near(repeated, y)
    near(dq_many, dq)
    for one, all_of_them in ((dk, dk_many), (dv, dv_many)):
        near(all_of_them.reshape(*k.shape[:3], R, k.shape[3]).sum(3), one)


def test_attention_with_one_key_returns_its_value():
    q, k, v = signed(np.random.default_rng(0), (3, 2, 1, 4, 3))
    y, u, (dq, dk, dv) = gradients(ops.attention, q, k, v)
    assert np.array_equal(y, v)
    assert np.array_equal(dv, u)
    assert abs(dq).max() < 1e-14  # rounding: Σ P dP is added up as Σ y dy, in another order
    assert abs(dk).max() < 1e-14


# ---- one operation, two ways


@drawn("embedding")
def test_embedding_is_a_product_with_one_hot_rows(case):
    w, ids = case.inputs
    y, u, (dw, _) = gradients(ops.embedding, w, ids)
    hot = np.eye(len(w))[ids.reshape(-1)]
    product, _, (_, dw_product) = gradients(ops.matmul, hot, w, u=u.reshape(len(hot), w.shape[1]))
    assert np.array_equal(product.reshape(y.shape), y)
    near(dw_product, dw)


@drawn("linear")
def test_linear_is_matmul_and_add(case):
    x, w, *b = case.inputs
    if x.ndim < 2:
        x = x[None]
    two_steps = lambda x, w, *b: ops.add(ops.matmul(x, w), *b) if b else ops.matmul(x, w)
    y, u, found = gradients(ops.linear, x, w, *b)
    expected_y, _, expected = gradients(two_steps, x, w, *b, u=u)
    near(y, expected_y)
    for dx, right in zip(found, expected, strict=True):
        near(dx, right)


@given(case=CASES["concat"])
def test_concat_of_its_slices_is_the_identity(case):
    axis = case.options["axis"]
    x = np.concatenate(case.inputs, axis)
    ends = np.cumsum([0, *(part.shape[axis] for part in case.inputs)])
    along = (slice(None),) * (axis % x.ndim)
    pieces = lambda x: [x[(*along, slice(a, b))] for a, b in pairwise(ends)]
    y, u, (dx,) = gradients(lambda x: ops.concat(*pieces(x), axis=axis), x)
    assert np.array_equal(y, x)
    assert np.array_equal(dx, u)


def test_rotarys_tables_stay_where_they_are():
    """A captured step goes on reading them, however many positions are asked for afterwards."""
    ask = lambda T, start: angles(np, T, 6, 123.0, start, (), np.dtype(np.float64))
    cos, sin = ask(16, 0)
    for start in range(300):
        later, _ = ask(1, start)
        assert start >= 16 or np.shares_memory(cos, later) == (start > 7)
    assert all(now is before for now, before in zip((x.base for x in ask(16, 0)), (cos.base, sin.base), strict=True))
    exact = np.arange(5, 9)[:, None] * 123.0 ** (-2 / 6 * np.arange(3))
    np.testing.assert_allclose(ask(4, 5)[1][:, 0], np.sin(exact), rtol=1e-14)


@given(x=CASES["rotary"].map(lambda case: case.inputs[0]), start=st.integers(0, 30), shift=st.integers(0, 30))
def test_rotary_keeps_norms_and_knows_distances_only(x, start, shift):
    y, there = ops.rotary(x, start=start).data, ops.rotary(x, start=start + shift).data
    near(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1))
    products = lambda z: np.einsum("bthd,bshd->bhts", z, z)
    np.testing.assert_allclose(products(y), products(there), rtol=0, atol=1e-11)
    assert np.array_equal(ops.rotary(x[:, :1], start=0).data, x[:, :1])


# ---- recomputation


@given(p=st.sampled_from([0.0, 0.3]), seed=seeds)
def test_a_recomputed_block_is_the_stored_one_bit_for_bit(p, seed):
    """With parameters that it closes over, dropout inside, and an input that needs no gradient."""
    rng = np.random.default_rng(seed)
    arrays = [signed(rng, shape) for shape in ((2, 3, 4), (4, 4), (4,))]

    def run(recompute):
        x, w, b = (Tensor(a, requires_grad=True) for a in arrays)
        ids = Tensor(np.array([0, 2]))

        def block(h, ids):
            h = ops.layer_norm(ops.gelu(ops.linear(h, w, b)), b) + h
            return ops.dropout(h, p=p, key=(seed, "block", 1)) + ops.embedding(w, ids)[0]

        h = ops.tanh(x)
        y = ops.recompute(h, ids, function=block) if recompute else block(h, ids)
        (y * y).sum().backward()
        return [y.data, x.grad, w.grad, b.grad]

    for stored, recomputed in zip(run(False), run(True), strict=True):
        assert np.array_equal(stored, recomputed)


def test_a_checkpoint_keeps_nothing_of_the_inside():
    kept, w = [], Tensor([2.0], requires_grad=True)

    def function(x):
        y = ops.exp(x) * w
        kept.append(y.node)
        return y

    x = Tensor([1.0], requires_grad=True)
    y = ops.recompute(x, function=function)
    assert kept == [None]  # nothing was recorded on the way forth, not for w either
    with no_grad():  # a walk back may stand in here; what it computes again must be recorded all the same
        y.backward()
        assert ops.recompute(x, function=function).node is None
    assert kept[1] is not None
    near(x.grad, 2 * np.exp(np.float32(1)))


# ---- dropout


@pytest.mark.slow
def test_dropout_keeps_the_mean_and_is_a_function_of_its_key():
    x = np.ones(100_000)
    drop = lambda *key: ops.dropout(x, p=0.3, key=key).data
    y = drop(1, "a", 2)
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / x.size)  # five standard deviations
    assert np.array_equal(drop(1, "a", 2), y)
    for other in ((2, "a", 2), (1, "b", 2), (1, "a", 3), (1, "a", 2, 1)):
        agreement = (drop(*other) == y).mean()
        assert abs(agreement - 0.58) < 0.01  # 0.3² + 0.7²: independent


@drawn("dropout")
def test_dropout_of_nothing_changes_nothing(case):
    y, u, (dx,) = gradients(lambda x: ops.dropout(x, p=0.0, key=case.options["key"]), *case.inputs)
    assert np.array_equal(y, case.inputs[0])
    assert np.array_equal(dx, u)


# ---- cross-entropy's ignored positions


@drawn("cross_entropy")
def test_ignored_positions_might_as_well_not_be_there(case):
    logits, targets = case.inputs
    ignored = case.options["ignore_index"]
    y, _, (dx, _) = gradients(lambda *xs: ops.cross_entropy(*xs, **case.options), logits, targets, u=np.array(1.0))
    counted = targets != ignored
    assert not dx[~counted].any()
    if counted.any():
        rest = gradients(ops.cross_entropy, logits[counted], targets[counted], u=np.array(1.0))
        near(rest[0], y)
        near(rest[2][0], dx[counted])
    else:
        assert y == 0


@drawn("log_probability")
def test_an_ignored_position_has_no_gradient_whatever_stands_there(case):
    """NaN or infinity among its logits, or in dy. The others do not notice."""
    logits, targets = case.inputs
    ignored = targets == case.options["ignore_index"]
    worse, dy = logits.copy(), np.random.default_rng(0).standard_normal(targets.shape)
    worse[ignored], dy[ignored] = np.resize([np.nan, np.inf, -np.inf], logits[ignored].shape), np.nan
    function = lambda *xs: ops.log_probability(*xs, **case.options)
    with np.errstate(invalid="ignore"):
        y, _, (dx, _) = gradients(function, worse, targets, u=dy)
    assert not y[ignored].any()
    assert not dx[ignored].any()
    right, _, (expected, _) = gradients(function, logits, targets, u=np.where(ignored, 0, dy))
    assert np.array_equal(y, right)
    assert np.array_equal(dx, expected)


# ---- to


@given(x=CASES["to"].map(lambda case: case.inputs[0]), dtype=st.sampled_from(["float16", "float32"]))
def test_a_converted_tensor_gets_its_gradient_in_its_own_dtype(x, dtype):
    y, u, (dx,) = gradients(lambda x: x.to(dtype=dtype), x)
    assert y.dtype == dtype
    assert np.array_equal(y, x.astype(dtype))
    assert dx.dtype == np.float64
    assert np.array_equal(dx, u.astype(dtype))
