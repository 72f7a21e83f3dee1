"""Every operation in half precision: float16, and bfloat16, which NumPy knows through ml_dtypes alone.

The policy (engine/precision.py) is held to the bit: values and gradients are what the definition gives in float32,
rounded once; one number stays float32; float32 weights beside half inputs are rounded where they are used, and their
gradients are float32.
"""

import numpy as np
import pytest
import strict_array
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm import Tensor, gradcheck, kernels, ops
from tinygrad_lm.backend import FLOAT32, dtype_of, is_floating
from tinygrad_lm.engine import precision
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.op import Op, op
from tinygrad_lm.engine.precision import MOVES, PRECISE, is_half
from tinygrad_lm.errors import DtypeError
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed

ROUNDOFF = {"bfloat16": 2**-8, "float16": 2**-11}
fewer = settings(max_examples=settings.default.max_examples // 4)
every_half = pytest.mark.parametrize("dtype", ROUNDOFF)


def leaves_of(case):
    return [Tensor(x, requires_grad=is_floating(x.dtype)) for x in case.inputs]


def distance(found, expected, size):
    """‖found − expected‖ / ‖size‖; float16 has no numbers between 0 and 6e-8."""
    found, expected = (np.asarray(x, "float64") for x in (found, expected))
    return np.linalg.norm(found - expected) / max(np.linalg.norm(size), 1e-3)


def dtype_of_value(name, case, y, dtype):
    """Half precision, unless many numbers became one or it is a log-probability."""
    if name in PRECISE:
        return FLOAT32
    return FLOAT32 if not y.ndim and any(x.ndim for x in case.inputs) and name not in MOVES else dtype_of(dtype)


@every_half
@pytest.mark.parametrize("weights", [False, True], ids=["all half", "float32 weights"])
@pytest.mark.parametrize("name", sorted(Op.registry.keys() - {"recompute"}))
@fewer
@given(data=st.data())
def test_value_and_gradients_are_those_of_float32_rounded(name, weights, dtype, data):
    """weights: all floating inputs but the first are float32, and used as if they were rounded."""
    function, case = Op.registry[name], data.draw(CASES[name]).to(dtype)
    single, held = case.to("float32"), list(case.inputs)
    if weights and name not in MOVES:
        first = next((i for i, x in enumerate(held) if is_half(x.dtype)), 0)  # after a condition
        held[first + 1 :] = [x.astype("f4") if is_half(x.dtype) else x for x in held[first + 1 :]]
    y, backward = function.rule(*single.inputs, **case.options)
    leaves = [Tensor(x, requires_grad=is_floating(x.dtype)) for x in held]
    result = function(*leaves, **case.options)
    assert result.dtype == dtype_of_value(name, case, y, dtype)
    assert np.array_equal(result.data, y.astype(result.dtype), equal_nan=True)
    dy = np.asarray(signed(np.random.default_rng(data.draw(seeds)), y.shape)).astype(result.dtype)
    result.backward(dy)
    for x, leaf, dx in zip(single.inputs, leaves, backward(dy.astype("float32")), strict=True):
        if leaf.grad is not None:
            assert leaf.grad.dtype == leaf.dtype
            assert np.array_equal(leaf.grad, checks.finished(dx, x).astype(leaf.dtype))


def test_float32_weights_are_rounded_where_they_are_used():
    """1 + 2⁻¹⁰ is 1 in bfloat16; its gradient has the digits of float32."""
    x = Tensor(np.array([[1.0, 2.0]], dtype_of("bfloat16")), requires_grad=True)
    w = Tensor(np.array([[1 + 2**-10], [3]], "float32"), requires_grad=True)
    y = ops.linear(x, w)
    assert (y.dtype, y.data.tolist()) == (x.dtype, [[7]])
    y.backward(np.array([[3.0]]))
    assert (x.grad.dtype, x.grad.tolist()) == (x.dtype, [[3, 9]])
    assert (w.grad.dtype, w.grad.tolist()) == ("float32", [[3], [6]])


@every_half
@pytest.mark.parametrize("name", sorted(Op.registry))
@fewer
@given(data=st.data())
def test_the_way_back_leaves_alone_what_it_is_given(name, dtype, data):
    case, rng = data.draw(CASES[name]).to(dtype), np.random.default_rng(data.draw(seeds))
    y, backward = Op.registry[name].run(*case.inputs, **case.options)
    before, dy = [x.copy() for x in case.inputs], np.asarray(signed(rng, y.shape)).astype(y.dtype)
    dy.flags.writeable = False
    first, second = ([checks.finished(dx, x) for dx, x in zip(backward(dy), case.inputs, strict=True)] for _ in "ab")
    for x, copy, one, other in zip(case.inputs, before, first, second, strict=True):
        checks.same(x, copy, "an input")
        assert one is None or np.array_equal(one, other)


@every_half
@fewer
@given(case=CASES["recompute"])
def test_recomputation_changes_no_bit(case, dtype):
    case, function = case.to(dtype), case.options["function"]
    plain, recomputed = leaves_of(case), leaves_of(case)
    y, same = function(*plain), ops.recompute(*recomputed, function=function)
    assert y.data.tobytes() == same.data.tobytes()
    y.sum().backward()
    same.sum().backward()
    for one, other in zip(plain, recomputed, strict=True):
        assert one.grad is other.grad is None or one.grad.tobytes() == other.grad.tobytes()


@every_half
def test_gradients_that_nobody_wants_are_not_computed(dtype, monkeypatch):
    """Nor summed over axes along which their input was broadcast."""
    summed = []
    monkeypatch.setattr(precision, "unbroadcast", lambda dx, shape: summed.append(shape) or unbroadcast(dx, shape))
    x = Tensor(np.ones((2, 3), dtype_of(dtype)), requires_grad=True)
    (x * 0.5).backward(np.ones((2, 3)))
    assert summed == [(2, 3)]


# ---- sums do not stall: 256 + 1 is 256 in bfloat16, 2048 + 1 is 2048 in float16

SUMS = {
    "sum": (ops.sum, 5000),
    "sum of columns": (lambda x: ops.sum(x.reshape(5000, 1), axis=0), 5000),
    "mean": (lambda x: ops.mean(x) * 5000, 5000),
    "logsumexp": (lambda x: ops.exp(ops.logsumexp(x)), 5000 * np.e),
    "matmul": (lambda x: x[None] @ x[:, None], 5000),
    "linear": (lambda x: ops.linear(x, ops.reshape(x, shape=(5000, 1))), 5000),
    "stacks": (lambda x: x.reshape(1, 1, 5000) @ x.reshape(1, 5000, 1), 5000),
}


@every_half
@pytest.mark.parametrize("place", [np.asarray, strict_array.asarray])
@pytest.mark.parametrize("name", SUMS)
def test_long_sums(name, place, dtype):
    f, expected = SUMS[name]
    with kernels.disabled():
        assert float(f(Tensor(place(np.ones(5000, dtype_of(dtype)))))) == pytest.approx(expected, rel=0.03)


GATHERED = {
    "added to every row": lambda x: x + np.zeros((5000, 1), x.dtype),
    "copied": lambda x: ops.broadcast_to(x, shape=(5000, 1)),
    "taken again and again": lambda x: x[[0] * 5000],
    "one token": lambda x: ops.embedding(ops.reshape(x, shape=(1, 1)), [0] * 5000),
    "bias": lambda x: ops.linear(np.zeros((5000, 1), x.dtype), np.zeros((1, 1), x.dtype), x),
    "scale": lambda x: ops.layer_norm(np.tile(np.array([[0, 1]], x.dtype), (5000, 1)), ops.broadcast_to(x, shape=(2,))),
}


@every_half
@pytest.mark.parametrize("name", GATHERED)
def test_gradients_of_many_uses_by_one_operation(name, dtype):
    x = Tensor(np.ones(1, dtype_of(dtype)), requires_grad=True)
    y = GATHERED[name](x)
    y.backward(np.ones(y.shape) if name != "scale" else np.tile([[0, 1]], (5000, 1)))
    assert x.grad.dtype == x.dtype
    assert float(x.grad[0]) == pytest.approx(5000, rel=2**-7)


@every_half
def test_equals_share_the_gradient_of_their_maximum(dtype):
    x = Tensor(np.ones(5000, dtype_of(dtype)), requires_grad=True)
    x.max().backward()
    assert np.unique(x.grad.astype(float)) == pytest.approx([1 / 5000], rel=2**-8)


@every_half
@pytest.mark.parametrize("place", [np.asarray, strict_array.asarray])
def test_a_leaf_may_gather_its_gradient_in_float32(place, dtype):
    """As a model's weights do: there 3,000 contributions of 1 make 3,000."""
    x = Tensor(place(np.ones(2, dtype_of(dtype))), requires_grad=True)
    x.node.grad = place(np.zeros(2, "float32"))
    with kernels.disabled():
        total = x.sum()
        for _ in range(2):
            total = total + x.sum()
        for _ in range(1000):
            x.sum().backward()
        total.backward()
    assert x.grad.dtype == "float32"
    assert [float(g) for g in x.grad] == [1003, 1003]


def test_rotary_turns_by_angles_that_are_not_rounded():
    """Position 1,000 in bfloat16 is known to ±4 alone: half a turn."""
    x = np.random.default_rng(0).standard_normal((1, 8, 2, 16)).astype(dtype_of("bfloat16"))
    y, backward = ops.rotary.run(x, start=1000)
    exact, _ = ops.rotary.rule(x.astype("float64"), start=1000)
    assert y.dtype == x.dtype
    assert distance(y, exact, exact) < 2**-8
    assert distance(backward(y)[0](), x, x) < 2**-7  # turned back


# ---- dtypes


@every_half
def test_a_rule_sees_float32_and_one_number_stays_so(dtype, monkeypatch):
    """The gradient of a loss arrives in float32; those of half inputs are half precision."""
    x, w = (Tensor(np.array([1.0, 2.0]).astype(dtype_of(dtype)), requires_grad=True) for _ in "ab")

    def squares(x, w):
        """y = Σ x w"""
        assert x.dtype == w.dtype == "float32"
        seen = lambda dy: dy * w if dy.dtype == "float32" else None
        return (x * w).sum(), lambda dy: (seen(dy), dy * x)

    def wider(x, w):
        """y = x w"""
        return x.astype("float64") * w, None

    monkeypatch.setattr(Op, "registry", dict(Op.registry))
    loss = op(squares)(x, w)
    assert loss.dtype == "float32"
    (loss * 0.5).backward()
    assert x.grad.dtype == x.dtype
    assert np.array_equal(x.grad, [0.5, 1])
    with pytest.raises(DtypeError, match="result would be float64"):
        op(wider)(x, w)


@every_half
def test_numbers_and_lists_adapt(dtype):
    dtype = dtype_of(dtype)
    x = Tensor(np.ones(2, dtype), requires_grad=True)
    for y in (
        x * 0.5,
        0.5 * x,
        x**2,
        2**x,
        x / 3,
        1 - x,
        x * [1.0, 2.0],
        ops.where(np.array([True, False]), x, 0.5),
        ops.maximum(x, 0.1),
    ):
        assert y.dtype == dtype
    assert (x * 0.5).data.tolist() == [0.5, 0.5]
    assert Tensor(dtype.type(2)).dtype == Tensor([dtype.type(2)]).dtype == dtype
    assert (
        repr(Tensor(np.ones(2, dtype)))
        == f"Tensor([1{'.' * (dtype.kind == 'f')}, 1{'.' * (dtype.kind == 'f')}], (2,) {dtype} cpu)"
    )


def test_bfloat16_goes_with_float32_alone():
    """With float32 the value is bfloat16, but where entries are only moved: that loses nothing."""
    a, b = Tensor(np.ones(2, dtype_of("bfloat16"))), Tensor(np.ones(2, "float32"))
    for f in (ops.add, ops.power, ops.maximum, ops.concat):
        for x, y in ((a, b), (b, a)):
            assert f(x, y).dtype == ("float32" if f is ops.concat else a.dtype)
        for other in ("float16", "float64"):
            with pytest.raises(
                DtypeError, match=rf"do not fit each other(.|\n)*bfloat16 cpu(.|\n)*{other} cpu\n  hint"
            ):
                f(a, np.ones(2, other))
    with pytest.raises(DtypeError, match="requires_grad needs a floating dtype, found uint16"):
        Tensor(a.data.view("uint16"), requires_grad=True)


@every_half
def test_gradcheck_takes_half_precision_for_the_numbers_in_it(dtype):
    report = gradcheck(ops.tanh, np.linspace(-1, 1, 5).astype(dtype_of(dtype)), method="complex", verbose=False)
    assert report.rows[0].checked == 5


@every_half
def test_a_transformer_computes_in_half_precision(dtype):
    """Forth and back, its loss and gradients are those of float32 but for roundings."""
    config = GPTConfig(vocab_size=17, block_size=8, n_layer=2, n_head=2, n_embd=16)
    tokens = np.random.default_rng(0).integers(0, 17, (2, 9))
    found = {}
    for name in (dtype, "float32"):
        model = GPT(config, 3, dtype_of(name))
        loss = ops.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        found[name] = [float(loss), *(np.asarray(p.grad, "float64") for p in model.parameters())]
    for half, single in zip(found[dtype], found["float32"], strict=True):
        assert distance(half, single, single) < 16 * ROUNDOFF[dtype]
