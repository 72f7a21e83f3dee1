"""Kernels that add up the columns of the gradient they write: column_sums reads what they left instead of it."""

import cuda_emulator
import numpy as np
import pytest
from cuda_checks import TOLERANCE, columns_agree, exact

from tinygrad_lm import ops
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.cuda import columns as cuda_columns
from tinygrad_lm.testing.case import Case

ACTIVATIONS = ["relu", "relu_squared", "silu", "gelu", "gelu_tanh"]


@pytest.fixture
def stages(monkeypatch):
    """How many rows each launch of column_sums went through."""
    cuda_columns.summed.clear()
    rows, launch = [], cuda_columns.launch
    noted = lambda x, *others, **more: rows.append(len(x)) or launch(x, *others, **more)
    monkeypatch.setattr(cuda_columns, "launch", noted)
    yield rows
    cuda_columns.summed.clear()


def numbers(dtype, *shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def gradients(xp, name, inputs, dy, **options):
    found = Op.registry[name].run(*map(xp.asarray, inputs), **options)[1](xp.asarray(dy))
    return [dx() if callable(dx) else dx for dx in found]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_of_an_activation(xp, stages, name, dtype):
    """Two blocks beside one another, three strips, each of several rounds, the last not full."""
    dtype = dtype_of(dtype)
    shape = 2, 67, 66 * 16 // dtype.itemsize
    x, dy = numbers(dtype, *shape), numbers(dtype, *shape) + dtype.type(0.5)
    found = []
    for cuda_emulator.order in (1, 2, 0):
        (dx,) = gradients(xp, name, (x,), dy)
        found.append(cuda_columns.column_sums(dx.reshape(-1, shape[-1])).get().tobytes())
    assert len(set(found)) == 1
    right = Op.registry[name].rule(*exact(Case((x,))).inputs)[1](dy.astype("f8"))[0]
    columns_agree(dx, right)
    assert max(stages) <= 264
    assert len(stages) == 4


@pytest.mark.parametrize("weights", [(True, True), (False, True)])
@pytest.mark.parametrize("C", [264, 1000, 5])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_of_a_norm(xp, stages, weights, C, dtype):
    """A row for a warp and for a block; with a gradient of x that is there already, too."""
    dtype = dtype_of(dtype)
    x, dy, plus = numbers(dtype, 2, 33, C), numbers(dtype, 2, 33, C)[::-1], numbers(dtype, 66, C).reshape(2, 33, C)
    w, b = (numbers(dtype, C) + dtype.type(i) if there else None for i, there in enumerate(weights))
    on_gpu = (None if p is None else xp.asarray(p) for p in (x, w, b))
    _, backward = ops.layer_norm.implementations["cuda", dtype.name](*on_gpu)
    dx, plus, dy = backward(xp.asarray(dy))[0], xp.asarray(plus), dy.astype("f8")
    right = ops.layer_norm.rule(*(None if p is None else p.astype("f8") for p in (x, w, b)))[1](dy)[0]
    columns_agree(dx(), right)
    columns_agree(dx.plus(plus), right + plus.get().astype("f8"))
    assert max(stages) <= 396
    assert len(stages) == 2


def test_not_of_a_norm_without_a_bias(xp, stages):
    gradients(xp, "rms_norm", (numbers("f4", 66, 264), numbers("f4", 264)), numbers("f4", 66, 264))
    assert not cuda_columns.summed


@pytest.mark.parametrize("shape", [(16, 31 * 4), (16, 33 * 4 + 1), (7, 256), (256,), ()])
def test_short_rows_and_few_are_left_to_column_sums(xp, stages, shape):
    gradients(xp, "silu", (numbers("f4", *shape),), numbers("f4", *shape))
    assert not cuda_columns.summed
