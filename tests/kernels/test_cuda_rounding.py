"""Rounding and widening: a model's weights all at once, with the bits of rounding each alone, and any array."""

import math

import numpy as np
import pytest
from cuda_checks import special_numbers

from tinygrad_lm import ops
from tinygrad_lm.engine.precision import in_dtype
from tinygrad_lm.kernels.cuda.rounding import rounded_once

bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


def addresses(x):
    """Of the first byte of x and of the first after its last."""
    return x.data.ptr, x.data.ptr + x.nbytes


@pytest.mark.parametrize("size", [8, 1000, 1003])
def test_what_lies_in_the_array_is_looked_up(xp, size):
    flat = xp.asarray(special_numbers(size))
    whole = flat[:6], flat[2 : size - 1], flat[:6].reshape(2, 3), flat[2:8].reshape(2, 3).T, flat[size - 1 :], flat[:0]
    before = [in_dtype(x, bfloat16).get().tobytes() for x in whole]
    with rounded_once(flat, bfloat16):
        found = [in_dtype(x, bfloat16) for x in (flat, *whole)]
        start, stop = addresses(found[0])
        assert all(start <= x.data.ptr <= stop for x in found)
        assert [x.get().tobytes() for x in found[1:]] == before
        assert [x.shape for x in found[1:]] == [x.shape for x in whole]


def test_anything_else_is_rounded_by_itself(xp):
    flat, other = (xp.asarray(special_numbers(64)) for _ in range(2))
    with rounded_once(flat, bfloat16):
        held = in_dtype(flat, bfloat16)
        start, stop = addresses(held)
        for x in (other, flat + 1, flat[::2]):
            found = in_dtype(x, bfloat16)
            assert not start <= found.data.ptr < stop
            assert found.get().tobytes() == x.get().astype(bfloat16).tobytes()
        assert in_dtype(flat[5:], np.dtype("float16")).dtype == "float16"
    assert not start <= in_dtype(flat, bfloat16).data.ptr < stop
    with rounded_once(flat, np.dtype("float32")):
        flat += 1
        assert in_dtype(flat, bfloat16).get().tobytes() == flat.get().astype(bfloat16).tobytes()


@pytest.mark.parametrize("shape", [(1003,), (2, 3, 40), ()])
def test_an_array_there_and_back(xp, shape):
    x = special_numbers(1003)[: math.prod(shape)].reshape(shape)
    y, backward = ops.to.run(xp.asarray(x), dtype="bfloat16")
    assert y.get().tobytes() == x.astype(bfloat16).tobytes()
    (dx,) = backward(y)
    assert (dx.dtype, dx.shape) == (x.dtype, shape)
    assert dx.get().tobytes() == x.astype(bfloat16).astype("float32").tobytes()


def test_only_to_bfloat16_where_it_is(xp):
    x = xp.asarray(special_numbers(8))
    assert ops.to.run(x, dtype="float64")[0].dtype == "float64"
    assert isinstance(ops.to.run(x, device="cpu")[0], np.ndarray)
    assert ops.to.run(x)[0].get().tobytes() == x.get().tobytes()
