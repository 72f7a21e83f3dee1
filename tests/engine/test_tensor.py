"""Tensor: what it is made of, what it says of itself, and its operators, each against NumPy's."""

import operator

import numpy as np
import pytest
from watching import steps

from tinygrad_lm import Tensor, ops
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.variable import as_array
from tinygrad_lm.errors import DtypeError, ShapeError
from tinygrad_lm.testing.drawing import positive

rng = np.random.default_rng(0)
A, B = positive(rng, (3, 4)), positive(rng, (3, 4))


# ---- what it is made of


def test_an_array_is_shared_and_numbers_and_lists_become_arrays():
    array = np.zeros(3)
    assert Tensor(array).data is array
    assert Tensor(array).numpy() is array
    assert Tensor(Tensor(array)).data is array
    for data, dtype in ((1.5, "float32"), ([1.0, 2], "float32"), (2, "int64"), ([[1, 2]], "int64"), (True, "bool")):
        assert Tensor(data).dtype == dtype
        assert np.array_equal(Tensor(data).data, data)
    assert Tensor(np.float16(1)).dtype == "float16"
    assert isinstance(Tensor(np.float64(1)).data, np.ndarray)


@pytest.mark.parametrize("bad", ["text", ["a", "b"], None, [None], {"a": 1}])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(DtypeError, match="expected numbers"):
        Tensor(bad)


@pytest.mark.parametrize("data", [[1, 2], [True], 3, np.array([1], "uint16")])
def test_only_floating_tensors_have_gradients(data):
    with pytest.raises(DtypeError, match="requires_grad needs a floating dtype"):
        Tensor(data, requires_grad=True)
    assert Tensor(data).grad is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex128"])
def test_numbers_without_a_dtype_adapt(dtype):
    like = np.zeros(2, dtype_of(dtype))
    for data in (2, 2.5, [1.0, 2.0]):
        assert as_array(data, like).dtype == dtype
    assert as_array([1, 2], like).dtype == "int64"  # ids and indices
    assert as_array(True, like).dtype == "bool"
    assert as_array(np.float32(1), like).dtype == "float32"
    assert as_array(2.5, np.zeros(2, int)).dtype == "float32"
    assert as_array(2, np.zeros(2, int)).dtype == "int64"


# ---- dtypes of results


def test_operations_keep_the_dtype_and_refuse_mixtures():
    names = "float16", "bfloat16", "float32", "float64"
    half, brain, single, double = (Tensor(np.ones(2, dtype_of(name))) for name in names)
    for x in (half, brain, single, double):
        for y in (x + 1, 1 - x, x * 2.5, x / 3, x**2, 2**x, -x, x @ np.ones((2, 1), x.dtype) if x.ndim > 1 else x):
            assert y.dtype == x.dtype
    for a, b in ((half, single), (single, half), (brain, single)):  # weights are rounded where they are used
        assert (a + b).dtype in (half.dtype, brain.dtype)
    for a, b in ((single, double), (half, double), (half, brain), (brain, half), (double, brain)):
        with pytest.raises(DtypeError, match=r"do not fit each other(.|\n)*hint"):
            a + b
    with pytest.raises(DtypeError, match="result would be float64"):
        single + Tensor(np.ones(2, int))  # NumPy would promote; a loss in float64 costs twice and says nothing
    with pytest.raises(DtypeError, match="result would be float"):
        brain * Tensor(np.ones(2, int))
    assert (Tensor([1, 2]) + Tensor([3, 4])).dtype == "int64"
    for name in names:
        assert single.to(dtype=name).dtype == dtype_of(name)


def test_lists_are_inputs_like_any_other():
    x = Tensor(np.ones(2), requires_grad=True)
    ([1.0, 2.0] + x * [3.0, 4.0]).sum().backward()
    assert np.array_equal(x.grad, [3, 4])
    assert np.array_equal(ops.embedding(np.eye(3), [2, 0]).data, np.eye(3)[[2, 0]])


# ---- operators and methods


@pytest.mark.parametrize("f", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
@pytest.mark.parametrize("number", [2.5, 3, np.float64(2)])
def test_operators_take_tensors_arrays_and_numbers_on_either_side(f, number):
    a, b = Tensor(A), Tensor(B)
    calls = [(a, b, f(A, B)), (a, B, f(A, B)), (A, b, f(A, B)), (a, B[0], f(A, B[0])), (A[0], b, f(A[0], B))]
    calls += [(a, number, f(A, number)), (number, b, f(number, B))]
    for left, right, expected in calls:
        y = f(left, right)
        assert isinstance(y, Tensor)  # `array + tensor` too: not an array of tensors
        assert y.dtype == "float64"
        np.testing.assert_allclose(y.data, expected, rtol=1e-15)


def test_matrix_product_and_negation():
    for y in (Tensor(A) @ B.T, A @ Tensor(B.T), Tensor(A) @ Tensor(B).T):
        assert np.array_equal(y.data, A @ B.T)
    assert np.array_equal((-Tensor(A)).data, -A)


METHODS = {
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.log(), np.log),
    "sqrt": (lambda x: x.sqrt(), np.sqrt),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "relu": (lambda x: (x - 1).relu(), lambda x: np.maximum(x - 1, 0)),
    "sum": (lambda x: x.sum(), np.sum),
    "sum of rows": (lambda x: x.sum(0, True), lambda x: x.sum(0, keepdims=True)),
    "mean": (lambda x: x.mean((0, 1)), np.mean),
    "mean of columns": (lambda x: x.mean(axis=-1, keepdims=True), lambda x: x.mean(-1, keepdims=True)),
    "max": (lambda x: x.max(axis=1), lambda x: x.max(1)),
    "max of columns": (lambda x: x.max(0, keepdims=True), lambda x: x.max(0, keepdims=True)),
    "softmax": (lambda x: x.softmax(0), lambda x: np.exp(x) / np.exp(x).sum(0)),
    "reshape": (lambda x: x.reshape(2, 6), lambda x: x.reshape(2, 6)),
    "reshape to a tuple": (lambda x: x.reshape((4, -1)), lambda x: x.reshape(4, 3)),
    "reshape to a vector": (lambda x: x.reshape(-1), np.ravel),
    "transpose": (lambda x: x.transpose(), np.transpose),
    "transpose by axes": (lambda x: x.transpose(1, 0), np.transpose),
    "transpose by a tuple": (lambda x: x.transpose((0, 1)), lambda x: x),
    "T": (lambda x: x.T, np.transpose),
    "swapaxes": (lambda x: x.swapaxes(0, -1), np.transpose),
    "to": (lambda x: x.to("cpu"), lambda x: x),
    "index": (lambda x: x[1], lambda x: x[1]),
    "slices": (lambda x: x[::2, None, -1], lambda x: x[::2, None, -1]),
    "array of indices": (lambda x: x[Tensor([2, 0, 2])], lambda x: x[[2, 0, 2]]),
    "tensors in a tuple": (lambda x: x[Tensor([2, 0]), Tensor([1, 1])], lambda x: x[[2, 0], [1, 1]]),
    "mask": (lambda x: x[Tensor(A > 1)], lambda x: x[A > 1]),
    "ellipsis": (lambda x: x[..., 0], lambda x: x[..., 0]),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_numpys(name):
    ours, numpys = METHODS[name]
    x = Tensor(A, requires_grad=True)
    y = ours(x)
    np.testing.assert_allclose(y.data, numpys(A), rtol=1e-15, strict=True)
    assert y.requires_grad
    y.sum().backward()
    assert x.grad.shape == A.shape


def test_every_operation_is_public():
    assert set(ops.__all__) == Op.registry.keys()
    assert all(getattr(ops, name) is op for name, op in Op.registry.items())


def test_a_tensor_is_a_sequence_of_its_rows():
    x = Tensor(A, requires_grad=True)
    assert len(x) == 3
    rows = list(x)
    assert all(np.array_equal(row.data, a) for row, a in zip(rows, A, strict=True))
    (rows[0] * 2 + rows[2]).sum().backward()
    assert np.array_equal(x.grad, np.array([2, 0, 1])[:, None] * np.ones_like(A))


# ---- what it says of itself


def test_attributes_are_the_arrays():
    x = Tensor(np.zeros((2, 3), "float32"))
    assert (x.shape, x.ndim, x.size, x.dtype, x.device, x.requires_grad) == ((2, 3), 2, 6, np.float32, "cpu", False)


def test_one_number_can_be_taken_out_of_a_tensor_of_one():
    for x in (Tensor(2.5), Tensor([[2.5]])):
        assert x.item() == float(x) == 2.5
        assert type(x.item()) is float
    with pytest.raises(ShapeError, match=r"of shape \(2,\) has 2 numbers, not one"):
        Tensor([1.0, 2.0]).item()


def test_numpy_functions_see_its_values():
    x = Tensor(A, requires_grad=True)
    assert np.array_equal(np.asarray(x), A)
    assert np.asarray(x, dtype="float32").dtype == "float32"
    assert np.array(x) is not x.data
    assert np.mean(np.asarray(x)) == A.mean()


def test_its_repr_shows_values_shape_dtype_device_and_origin():
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5], (2,) float32 cpu)"
    x = Tensor([1.0], requires_grad=True, name="wte")
    assert repr(x) == "Tensor([1.], (1,) float32 cpu, parameter wte)"
    assert repr(x * 2) == "Tensor([2.], (1,) float32 cpu, from multiply)"
    assert repr(Tensor([1.0], requires_grad=True)) == "Tensor([1.], (1,) float32 cpu, parameter)"
    assert repr(Tensor(1.23456789)).startswith("Tensor(1.2346, ")
    assert "..." in repr(Tensor(np.zeros(1000)))
    assert repr(ops.exp) == "<op exp: y = exp x        dx = dy y>"


def test_only_a_leaf_shows_a_gradient():
    """What lies at other nodes during a walk is not complete: it says so by not being there."""
    x = Tensor([1.0], requires_grad=True)
    y = x * 2
    shown, there = [], []

    def visit(node, dy, dxs):
        shown.append(y.grad)
        there.append(y.node.grad)

    with steps(visit):
        (y * 3 + y).backward()
    assert shown == [None] * 3
    assert any(grad is not None for grad in there)
    assert x.grad == 8
    assert x.detach().grad is None
    assert x.detach().data is x.data


@pytest.mark.parametrize("name", sorted(Op.registry))
def test_every_operation_states_its_formula_and_the_shapes_that_fit(name):
    op = Op.registry[name]
    value, *gradients = op.formula.split("        ")
    assert value.startswith("y = ")
    assert gradients[0].startswith(("d", "dx"))
    assert "=" in gradients[0] or "+=" in gradients[0]
    assert op.signature
    assert op.__name__ == op.rule.__name__ == name
