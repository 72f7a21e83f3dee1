"""Every operation on an array type that is as strict as CuPy's: forth and back, without leaving the device once."""

import numpy as np
import pytest
import strict_array as xp
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm import Tensor, backend, kernels, ops
from tinygrad_lm.backend import dtype_of, is_floating
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import DeviceError, DtypeError
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed

OPERATIONS = sorted(Op.registry)
fewer = settings(max_examples=settings.default.max_examples // 4)
HOST, DEVICE = np.arange(1.0, 4.0), xp.asarray(np.arange(1.0, 4.0))


@pytest.fixture(autouse=True, scope="module")
def definitions():
    """Definitions alone: implementations for a CPU round differently, those for a GPU are compared elsewhere."""
    with kernels.disabled():
        yield


def computed(op, case, u, place):
    """Value and gradients, all arrays put where `place` puts them."""
    leaves = [Tensor(place(x.copy("C")), requires_grad=is_floating(x.dtype)) for x in case.inputs]
    y = op(*leaves, **case.options)
    y.backward(place(u))
    return y.data, *(leaf.grad for leaf in leaves if leaf.grad is not None)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", OPERATIONS)
@fewer
@given(data=st.data())
def test_every_operation_is_the_same_there_bit_for_bit(name, dtype, data):
    op, case = Op.registry[name], data.draw(CASES[name]).to(dtype)
    if case.options.get("device"):
        case.options = {}  # `to` moves; it has a test of its own
    u = signed(np.random.default_rng(data.draw(seeds)), op.rule(*case.inputs, **case.options)[0].shape).astype(
        dtype_of(dtype)
    )
    here, there = computed(op, case, u, np.asarray), computed(op, case, u, xp.asarray)
    for host, device in zip(here, there, strict=True):
        assert type(device) is xp.ndarray
        assert device.dtype == host.dtype
        assert np.array_equal(device.get(), host)


@given(case=CASES["getitem"])
def test_indices_may_lie_on_the_device(case):
    def moved(index):
        if isinstance(index, tuple):
            return tuple(map(moved, index))
        return Tensor(xp.asarray(index)) if isinstance(index, np.ndarray) else index

    x = Tensor(xp.asarray(case.inputs[0]), requires_grad=True)
    y = x[moved(case.options["index"])]
    y.sum().backward()
    plain = Tensor(case.inputs[0].copy("C"), requires_grad=True)
    plain[case.options["index"]].sum().backward()
    assert np.array_equal(x.grad.get(), plain.grad)


def test_tensors_move_and_their_gradients_move_back(monkeypatch):
    monkeypatch.setattr(backend, "_cupy", lambda: xp)
    x = Tensor(HOST, requires_grad=True)
    there = x.to("cuda", dtype="float32")
    assert (there.device, there.dtype) == ("cuda", "float32")
    (there.to("cpu") * 2 + (there * 3).to("cpu")).sum().backward()
    assert isinstance(x.grad, np.ndarray)
    assert x.grad.dtype == "float64"
    assert np.array_equal(x.grad, [5, 5, 5])
    y = Tensor(DEVICE, requires_grad=True)
    assert y.to("cuda", dtype="float64").dtype == "float64"
    y.to("cpu").sum().backward()
    assert type(y.grad) is xp.ndarray


def test_a_tensor_there_behaves_as_here():
    x = Tensor(DEVICE, requires_grad=True, name="w")
    assert x.device == "cuda"
    assert repr(x) == "Tensor([1., 2., 3.], (3,) float64 cuda, parameter w)"
    assert np.array_equal(x.numpy(), HOST)
    assert x[1].item() == float(x[1]) == 2
    assert len(list(x)) == 3
    for y in (x + 1, 1 - x, x * np.float64(2), np.float64(2) * x, 2 / x, x**2, 2**x, DEVICE + x, x + DEVICE, -x):
        assert (y.device, y.dtype) == ("cuda", "float64")
    ops.where(DEVICE > 1, x, 0).backward([1, 2, 3])
    assert np.array_equal(x.grad.get(), [0, 2, 3])
    x.sum().backward()
    assert np.array_equal(x.grad.get(), [1, 3, 4])


def test_arrays_of_two_devices_do_not_mix():
    a, b = Tensor(HOST), Tensor(DEVICE)
    for f in (ops.add, ops.multiply, ops.maximum, ops.concat, ops.stack, ops.power):
        for pair in ((a, b), (b, a)):
            with pytest.raises(DeviceError, match=r"on different devices(.|\n)*cpu(.|\n)*hint : x.to"):
                f(*pair)
    with pytest.raises(DeviceError):
        ops.matmul(Tensor(xp.zeros((3, 3))), np.eye(3))
    with pytest.raises(DtypeError, match="token ids must be integers"):
        ops.embedding(Tensor(xp.zeros((3, 2))), b)


# ---- the array type itself is as strict as it says


@pytest.mark.parametrize(
    "refused",
    [
        lambda: np.asarray(DEVICE),
        lambda: np.exp(DEVICE),
        lambda: np.sum(DEVICE),
        lambda: np.concatenate([DEVICE, DEVICE]),
        lambda: HOST + DEVICE,
        lambda: DEVICE * HOST,
        lambda: DEVICE < HOST,
        lambda: DEVICE * [1.0, 2.0, 3.0],
        lambda: xp.exp(HOST),
        lambda: xp.maximum(DEVICE, HOST),
        lambda: xp.where(HOST > 1, DEVICE, DEVICE),
        lambda: xp.where(DEVICE > 1, HOST, DEVICE),
        lambda: xp.where(True, DEVICE, DEVICE),
        lambda: DEVICE.max(initial=0),
        lambda: DEVICE.sum(where=DEVICE > 1),
        lambda: xp.exp(DEVICE, where=DEVICE > 1),
        lambda: DEVICE.copy().__setitem__(0, HOST[:1]),
        lambda: DEVICE.copy().__iadd__(HOST),
        lambda: HOST.copy().__iadd__(DEVICE),
        lambda: xp.add.at(xp.zeros(3, "int64"), [0], 1),
    ],
)
def test_what_cupy_refuses_is_refused(refused):
    with pytest.raises(TypeError):
        refused()


@pytest.mark.parametrize("name", ["einsum_path", "clip", "errstate", "linalg", "fmax", "vectorize"])
def test_what_is_not_there_is_missed(name):
    with pytest.raises(AttributeError):
        getattr(xp, name)


def test_functions_of_the_device_take_arrays_of_the_device_only():
    for f in (xp.exp, xp.zeros_like, lambda x: xp.tile(x, 2), lambda x: xp.concatenate([DEVICE, x])):
        with pytest.raises(TypeError, match="Unsupported type"):
            f(HOST)


def test_reductions_and_single_entries_stay_arrays():
    for y in (DEVICE.sum(), DEVICE.max(), DEVICE[0], xp.exp(DEVICE[0]), DEVICE[0] + 1, 2.0 * DEVICE.mean()):
        assert type(y) is xp.ndarray
        assert y.shape == ()
    assert float(DEVICE.sum()) == 6
    assert (DEVICE * np.float32(2)).dtype == "float64"
    host = HOST.copy()
    there = xp.asarray(host)
    host[0] = 9
    assert there[0] == 1  # the way in is a copy, as over a bus
