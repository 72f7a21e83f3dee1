"""What people are used to from NumPy and PyTorch works, or says what to write instead. Nothing is lost in silence."""

import copy
import math
import operator
import pickle
import re

import numpy as np
import pytest

from tinygrad_lm import Tensor, habits, ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import DtypeError, GraphError, ShapeError

A = np.array([[1.0, -2.0], [3.0, 0.5]])


def leaf(*values):
    return Tensor(np.array(values, float), requires_grad=True)


@pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
def test_comparisons_are_entry_by_entry(compare):
    x = Tensor(A, requires_grad=True)
    for other in (1.0, A.T, Tensor(A.T)):
        found = compare(x, other)
        assert type(found) is np.ndarray
        assert np.array_equal(found, compare(A, np.asarray(other)))
    assert np.array_equal(compare(A.T, x), compare(A.T, A))


def test_a_comparison_selects():
    a, b = leaf(1, 2, 1), leaf(5, 6, 7)
    y = ops.where(a == 1.0, a, b)
    y.sum().backward()
    assert np.array_equal(y.data, [1, 6, 1])
    assert np.array_equal(a.grad, [1, 0, 1])
    assert np.array_equal(b.grad, [0, 1, 0])
    assert np.array_equal(a[a > 1].data, [2])


def test_tensors_are_keys_by_identity():
    a, b = leaf(1), leaf(1)
    names = {a: 1, b: 2}
    assert (names[a], names[b]) == (1, 2)


def test_truth_is_that_of_one_number():
    assert Tensor(0.5)
    assert not Tensor([0.0])
    assert Tensor(0.05) < 0.1
    with pytest.raises(ShapeError, match=r"not one truth value(.|\n)*any\(\)"):
        bool(Tensor([0.0, 1.0]))


def test_one_number_is_formatted_and_converted():
    loss = Tensor(2.34567)
    assert f"{loss:.3f}" == "2.346"
    assert f"{loss}" == str(loss)
    assert int(Tensor([7.9])) == 7
    with pytest.raises(ShapeError, match="has 2 numbers"):
        f"{Tensor([1.0, 2.0]):.3f}"


def test_names_from_other_libraries_are_answered_with_ours():
    x = Tensor(A, requires_grad=True)
    for name, spelling in habits.METHODS.items():
        with pytest.raises(AttributeError) as caught:
            getattr(x, name)
        assert str(caught.value) == f"a tensor has no {name}\n  hint : {name} is written {spelling}"
        assert not hasattr(x, name)
    with pytest.raises(AttributeError, match=r"^a tensor has no nonsense$"):
        _ = x.nonsense


@pytest.mark.parametrize("name", habits.METHODS)
def test_every_spelling_works(name):
    """What stands before the first semicolon is Python."""
    x, y = Tensor(A + 4.0, requires_grad=True), Tensor(A.T + 5.0)
    names = {
        "x": x,
        "y": y,
        "ops": ops,
        "np": np,
        "math": math,
        "Tensor": Tensor,
        "condition": A > 0,
        "value": 1.0,
        "data": A,
    }
    names |= {"axis": 0, "low": 0.0, "high": 1.0, "rows": [0], "columns": [1], "ids": [1, 0], "n": 1}
    shaped = Tensor(np.arange(6.0).reshape(1, 2, 3) + 1, requires_grad=True)
    if "(2, 3" in habits.METHODS[name] or "(1, 0, 2)" in habits.METHODS[name]:
        names["x"] = shaped[0, 0] if "broadcast_to" in habits.METHODS[name] else shaped
    exec(habits.METHODS[name].partition("; ")[0].replace('"cuda"', '"cpu"'), names)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.sum(dim=0), "sum: got an unexpected keyword argument 'dim'(.|\n)*dim is written axis=0"),
        (lambda x: x.mean(0, keepdim=True), "keepdim is written keepdims=True"),
        (lambda x: x.max(dim=1), "max: (.|\n)*axis=None, keepdims=False(.|\n)*dim is written axis=0"),
        (lambda x: x.softmax(dim=-1), "softmax: (.|\n)*dim is written axis=0"),
        (lambda x: ops.logsumexp(x, dim=1), "logsumexp: (.|\n)*dim is written axis=0"),
        (lambda x: ops.cross_entropy(x, [0, 1], reduction="none"), "reduction is written -ops.log_probability"),
        (lambda x: ops.exp(x, out=x), "out is written y ="),
        (lambda x: ops.add(x), "add: missing a required argument: 'b'\n  rule : add\\(a, b\\)"),
    ],
)
def test_keywords_of_other_libraries_are_answered_with_ours(call, message):
    with pytest.raises(TypeError, match=message):
        call(Tensor(A, requires_grad=True))


def test_losses_of_each_position():
    """What reduction="none" is for."""
    x, targets = Tensor(A, requires_grad=True), np.array([1, 0])
    losses = -ops.log_probability(x, targets)
    assert losses.shape == (2,)
    assert np.isclose(losses.mean().item(), ops.cross_entropy(x, targets).item(), rtol=1e-15)


def test_other_habits_that_work():
    x = leaf(4.0, -1.0)
    assert type((x / np.sqrt(64)).data) is np.ndarray
    assert (x / np.sqrt(64)).requires_grad
    assert np.array_equal((x + [1, 2]).data, [5, 1])  # noqa: RUF005  a tensor
    assert np.array_equal(x[x > 0].data, [4])
    loss = (x * x).mean()
    total = 0.0
    total += loss
    assert total.requires_grad
    assert loss
    assert f"{loss:.3f}" == "8.500"


def test_products_of_vectors_are_refused_with_their_spelling():
    a, b = leaf(1, 2), leaf(3, 4)
    with pytest.raises(ShapeError, match=r"hint : x\[None, :\] is a row.*\(a \* b\)\.sum\(\) is the product of two"):
        a @ b
    assert (a * b).sum().item() == 11
    assert np.array_equal((A @ b[:, None])[:, 0].data, A @ b.data)


def test_a_mistake_in_a_gradient_function_names_its_operation():
    wrong = Op(lambda x: (x * 1, lambda dy: (dy[5],)))
    try:
        with pytest.raises(IndexError) as caught:
            wrong(leaf(1, 2)).sum().backward()
    finally:
        del Op.registry[wrong.name]
    assert caught.value.__notes__ == [f"in the gradient function of {wrong.name}"]


def test_absolute_values():
    x = leaf(-2, 0, 3)
    (abs(x) * np.array([1.0, 10, 100])).sum().backward()
    assert np.array_equal(abs(x).data, [2, 0, 3])
    assert np.array_equal(x.grad, [-1, 0, 100])


def test_lists_of_tensors_keep_their_graph():
    a, b = leaf(1, 2), leaf(3, 4)
    for y in (ops.concat([a, b]), ops.concat((a, b)), ops.concat(a, b)):
        assert np.array_equal(y.data, [1, 2, 3, 4])
        assert y.requires_grad
    assert np.array_equal(ops.stack([a, b]).data, [[1, 2], [3, 4]])
    ones = Tensor(np.ones(2))
    y = ones + [a.sum(), b.sum()]  # noqa: RUF005  tensors
    y.sum().backward()
    assert np.array_equal(a.grad, [1, 1])
    ops.where([True, False], [a.sum(), b.sum()], 0.0).sum().backward()
    assert np.array_equal(a.grad, [2, 2])
    assert np.array_equal(b.grad, [1, 1])
    for lose in (lambda: Tensor([a, b]), lambda: Tensor([[a.sum()], [1.0]]), lambda: ops.exp(a).backward([a, b])):
        with pytest.raises(GraphError, match=r"without their graph(.|\n)*ops\.stack"):
            lose()
    assert np.array_equal(Tensor([a.detach(), b.detach()]).data, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda x: np.concatenate([x, x]), "tinygrad_lm.ops"),
        (lambda x: np.stack([x, x]), r"ops\.stack"),
        (lambda x: np.where(A > 0, x, 0), r"ops\.where"),
        (lambda x: np.sum(x), r"ops\.sum"),
        (lambda x: np.mean(x, axis=0), r"ops\.mean"),
        (lambda x: np.reshape(x, (4,)), r"ops\.reshape"),
        (lambda x: np.dot(x, x), r"x\.numpy\(\)"),
        (lambda x: np.einsum("ij,jk", x, x), r"x\.numpy\(\)"),
        (lambda x: np.linalg.norm(x), r"x\.numpy\(\)"),
        (lambda x: np.clip(x, 0, 1), r"x\.numpy\(\)"),
        (lambda x: np.var(x), r"x\.numpy\(\)"),
    ],
)
def test_numpys_functions_on_recorded_tensors_are_refused(call, hint):
    with pytest.raises(GraphError, match=rf"lose the graph(.|\n)*{hint}"):
        call(Tensor(A, requires_grad=True))
    assert np.array_equal(call(Tensor(A)), call(A))


def test_changing_a_leaf_in_place_is_refused_with_the_way_out():
    w, y = leaf(1, 2), leaf(1, 2) * 2
    for change, sign in {"iadd": "+", "isub": "-", "imul": "*", "itruediv": "/", "ipow": "**"}.items():
        with pytest.raises(GraphError, match=rf"a leaf(.|\n)*x\.data {re.escape(sign)}= .*y = x {re.escape(sign)} "):
            getattr(operator, change)(w, 2.0)
        z = getattr(operator, change)(y, 2.0)
        assert z.requires_grad  # a new result under the old name
        assert np.array_equal(z.data, getattr(operator, change[1:])(y.data, 2.0))
    square = Tensor(A, requires_grad=True)
    with pytest.raises(GraphError, match="@=: a leaf"):
        square @= A
    w.data -= 0.5
    assert np.array_equal(w.data, [0.5, 1.5])


def test_copies_are_leaves_of_their_own():
    x = Tensor(A, requires_grad=True, name="w")
    (x * 3).sum().backward()
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert twin.node.name == "w"
        assert np.array_equal(twin.grad, x.grad)
        (twin * 2).sum().backward()
        assert np.array_equal(twin.grad, np.full((2, 2), 5.0))
        assert np.array_equal(x.grad, np.full((2, 2), 3.0))
        twin.data[0, 0] = 9
        assert x.data[0, 0] == 1
    for lose in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(GraphError, match=r"a graph behind it(.|\n)*x\.detach\(\)"):
            lose(x * 1)


MASKED = [
    lambda x: ops.sqrt(ops.relu(x)),
    lambda x: ops.sqrt(ops.where(x.data > 0, x, 0.0)),
    lambda x: ops.log(ops.where(x.data > 0, x, 1.0)),
    lambda x: ops.sqrt(ops.maximum(x, 0.0)),
    lambda x: ops.sqrt(ops.relu_squared(x)),
    lambda x: 1 / ops.relu(x),
    lambda x: ops.relu(x) ** 0.5,
    lambda x: 1 / ops.dropout(x, p=0.5, key=(0, "a", 0, 0)),
]


@pytest.mark.parametrize("f", MASKED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_masked_gradient_is_zero_whatever_stands_beside_it(f, dtype):
    """0 · ∞ is not a number; a mask selects, it does not multiply."""
    x = Tensor(np.array([-1.0, 4.0, -2.0, -3.0], dtype), requires_grad=True)
    with np.errstate(divide="ignore"):
        y = f(x)
        y.sum().backward()
    masked = ~np.isfinite(y.data) | (y.data == 0)
    assert masked.any()
    assert np.array_equal(x.grad[masked], np.zeros(masked.sum()))
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize("f", [ops.maximum, lambda a, b: ops.maximum(b, a), lambda a, b: ops.add(a, b)])
def test_nan_comes_out_where_it_goes_in(f):
    y = f(Tensor([np.nan, 1.0]), Tensor([0.0, np.nan]))
    assert np.isnan(y.data).all()


def test_other_kinds_of_arrays_are_arrays_or_refused():
    """A matrix would multiply as one; another library's array has a dtype that NumPy does not know."""
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(A)
    x = Tensor(matrix) * matrix
    assert type(x.data) is np.ndarray
    assert np.array_equal(x.data, A * A)
    for wrong in (np.array([None, 1]), np.array(["2026-01-01"], "datetime64[D]"), np.zeros(2, [("a", float)])):
        with pytest.raises(DtypeError, match="expected numbers"):
            Tensor(wrong)
    torch = pytest.importorskip("torch", reason="PyTorch, whose arrays this test hands over, is not installed")
    y = Tensor(A, requires_grad=True) * torch.tensor(A)
    assert type(y.data) is np.ndarray
    assert np.array_equal(y.data, A * A)


def test_float64_scalars_of_numpy_are_python_floats():
    """np.sqrt(64) has a dtype, but it is meant as a number."""
    x = Tensor(A.astype("float32"), requires_grad=True)
    assert (x / np.sqrt(64)).dtype == (np.sqrt(64) * x).dtype == "float32"
    assert (Tensor(A) / np.sqrt(64)).dtype == "float64"
    with pytest.raises(DtypeError):
        Tensor(A) * np.float32(2)


@pytest.mark.slow
def test_arrays_of_jax_are_arrays():
    jnp = pytest.importorskip("jax.numpy", reason="JAX, whose arrays this test hands over, is not installed")
    x = Tensor(A.astype("float32"), requires_grad=True)
    for y in (x * jnp.asarray(A), jnp.asarray(A) * x, x * Tensor(jnp.asarray(A))):
        assert type(y.data) is np.ndarray
        assert y.requires_grad
        assert np.allclose(y.data, A * A)
