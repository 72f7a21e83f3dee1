"""Kernels that add up the columns of the gradient they write: column_sums reads what they left instead of it."""

import cuda_emulator
import numpy as np
import pytest
from cuda_checks import TOLERANCE, exact

from tinygrad_lm.backend import dtype_of
from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.cuda import columns as cuda_columns
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.case import Case

ACTIVATIONS = ["relu", "relu_squared", "silu", "gelu", "gelu_tanh"]


@pytest.fixture
def stages(monkeypatch):
    """How many rows each launch of column_sums went through."""
    cuda_columns.summed.clear()
    rows, launch = [], cuda_columns.launch
    monkeypatch.setattr(
        cuda_columns, "launch", lambda x, *others, **more: rows.append(len(x)) or launch(x, *others, **more)
    )
    yield rows
    cuda_columns.summed.clear()


def numbers(dtype, *shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def gradients(xp, name, inputs, dy, **options):
    found = Op.registry[name].run(*map(xp.asarray, inputs), **options)[1](xp.asarray(dy))
    return [dx() if callable(dx) else dx for dx in found]


def sums_agree(dx, right):
    """The sums are of what was rounded to dx afterwards, so they are as exact in bfloat16 as in float32."""
    C = dx.shape[-1]
    found = cuda_columns.column_sums(dx.reshape(-1, C))
    checks.agree(found.get(), right.reshape(-1, C).sum(0), "sums", 1e-5)


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
    sums_agree(dx, right)
    assert max(stages) <= 264
    assert len(stages) == 4


@pytest.mark.parametrize("shape", [(16, 31 * 4), (16, 33 * 4 + 1), (7, 256), (256,), ()])
def test_short_rows_and_few_are_left_to_column_sums(xp, stages, shape):
    gradients(xp, "silu", (numbers("f4", *shape),), numbers("f4", *shape))
    assert not cuda_columns.summed
