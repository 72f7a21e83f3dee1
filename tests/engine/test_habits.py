"""What people are used to from NumPy and PyTorch works, or says what to write instead. Nothing is lost in silence."""

import copy
import operator
import pickle

import numpy as np
import pytest

from tinygrad_lm import Tensor, ops
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
    for change in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
        with pytest.raises(GraphError, match=r"a leaf(.|\n)*x\.data"):
            change(w, 2.0)
        assert change(y, 2.0).requires_grad  # a new result under the old name
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
