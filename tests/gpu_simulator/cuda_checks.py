"""CUDA implementations compared with their definitions: emulated, or on CuPy if that is the array library given."""

from contextlib import contextmanager

import cuda_emulator
import numpy as np
import pytest

from tinygrad_lm.backend import wide
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.precision import PRECISE
from tinygrad_lm.kernels.cuda import activation as cuda_activation
from tinygrad_lm.kernels.cuda import adamw as cuda_adamw
from tinygrad_lm.kernels.cuda import columns as cuda_columns
from tinygrad_lm.kernels.cuda import cross_entropy as cuda_classifier
from tinygrad_lm.kernels.cuda import elementwise as cuda_elementwise
from tinygrad_lm.kernels.cuda import embedding as cuda_embedding
from tinygrad_lm.kernels.cuda import normalize as cuda_normalize
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.drawing import signed

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
SMALL = [
    (cuda_normalize, "PACKETS", 3), (cuda_normalize, "WARPS", 2), (cuda_normalize, "LONGEST", 3),
    (cuda_normalize, "BLOCKS", {2: 3, 4: 3}), (cuda_normalize, "WITH_BIAS", {2: 3, 4: 3}),
    (cuda_activation, "BLOCKS", 6), (cuda_elementwise, "LONG", (16, 65535)),
    (cuda_columns, "BLOCKS", 12), (cuda_columns, "AT_ONCE", 30), (cuda_columns, "SHORTEST", 2),
    (cuda_classifier, "THREADS", 64), (cuda_classifier, "LOGITS", 320),
    (cuda_embedding, "IDS", 32), (cuda_embedding, "STRIPS", (32, 64)), (cuda_embedding, "TABLE", 100),
    (cuda_adamw, "THREADS", 64), (cuda_adamw, "BLOCKS", 3),
]  # fmt: skip


def gpu():
    """CuPy, where there is a GPU; else the test is skipped."""
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("there is no GPU")
    return cupy


@contextmanager
def small_blocks():
    """Emulated kernels in blocks so small that small cases take several."""
    with cuda_emulator.emulated() as patch:
        for module, name, value in SMALL:
            patch.setattr(module, name, value)
        yield patch


def special_numbers(size):
    """Normal numbers in float32, and the ones whose rounding is special."""
    x = np.random.default_rng(0).standard_normal(size).astype("f4")
    x[:5] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, np.inf, -0.0, 3.4e38
    return x


def on_device(xp, name, case, dy):
    """Value and gradients of an operation, computed there and brought to the host; None for ids."""
    y, backward = Op.registry[name].run(*(xp.asarray(x) for x in case.inputs), **case.options)
    assert type(y) is xp.ndarray
    return [y.get(), *on_host(backward(xp.asarray(dy)))]


def on_host(gradients):
    """What a gradient function returned; what is still a function is computed, and added where it can add itself."""
    found = [dx() if callable(dx) else dx for dx in gradients]
    for dx, x in zip(gradients, found, strict=True):
        if hasattr(dx, "plus"):
            adds_itself(dx, x)
    for x in found:
        if x is not None and x.data.ptr in cuda_columns.summed:
            agree_with_columns(cuda_columns.summed[x.data.ptr][1].get().sum(0), x.get())
    return [None if dx is None else dx.get() for dx in found]


def adds_itself(dx, alone):
    """dx.plus is the sum with another gradient, which stays as it is, or is written over if it is `out`."""
    assert dx.dtype == alone.dtype
    there = -3 * alone
    before = there.get().tobytes()
    total = dx.plus(there)
    assert there.get().tobytes() == before
    assert dx.plus(there, there) is there
    for found in (total, there):
        assert (found.dtype, found.shape) == (alone.dtype, alone.shape)
        right = -2 * alone.get().astype("float64")
        checks.agree(found.get().astype("float64"), right, "a gradient added", TOLERANCE[alone.dtype.name])


def expected(name, case, dy):
    """The definition's in float64, summed over broadcast axes as the engine does."""
    y, gradients = checks.evaluate(Op.registry[name].rule, exact(case))
    return [y, *gradients(dy.astype("float64"))]


def exact(case):
    """The same numbers in float64; bfloat16 is not NumPy's, and its kind not "f"."""
    return Case(tuple(x if x.dtype.kind in "iu" else x.astype("float64") for x in case.inputs), case.options)


def agree(found, expected, case, dtype, name=""):
    """The value of a loss, one number, is in float32 at least, and so are log-probabilities."""
    for i, (x, right) in enumerate(zip(found, expected, strict=True)):
        what = f"gradient of input {i - 1}" if i else "value"
        if right is not None:
            assert x.dtype == (dtype if i else dtype_of_value(name, x.shape, dtype)), f"{what} is {x.dtype}"
            x = checks.finished(x, case.inputs[i - 1]) if i else x  # the rule leaves sums to the engine
            checks.agree(x.astype("float64"), right, what, TOLERANCE[dtype])


def ids_outside_their_table(xp):
    """They give NaN and have no gradient; the others get theirs all the same."""
    rng = np.random.default_rng(0)
    w, dy = rng.standard_normal((3, 4)).astype("float32"), rng.standard_normal((70, 4)).astype("float32")
    ids = rng.integers(0, 3, 70)
    ids[::4] = np.resize([-1, 400, 3, 2**31 - 1, -2000, 2**31 - 2, 2**32 + 1, 2 - 2**32, 3], 18)
    inside = (ids >= 0) & (ids < 3)
    y, dw, _ = on_device(xp, "embedding", Case((w, ids)), dy)
    assert np.array_equal(y[inside], w[ids[inside]])
    assert np.isnan(y[~inside]).all()
    _, backward = Op.registry["embedding"].rule(w, ids[inside])
    checks.agree(dw, backward(dy[inside])[0], "gradient", 1e-6)


def columns_agree(dx, right):
    """column_sums of a gradient, which may have been added up in float32 before they were rounded to its dtype."""
    C = dx.shape[-1]
    found = cuda_columns.column_sums(dx.reshape(-1, C))
    checks.agree(found.get(), right.reshape(-1, C).sum(0), "sums of columns", 1e-5)


def agree_with_columns(sums, x):
    """Sums of a matrix's columns from before its entries were rounded to 8 bits, each by 2⁻⁸ of itself at most."""
    x = x.astype("float64").reshape(-1, len(sums))
    assert (abs(sums - x.sum(0)) <= 1.01 * 2.0**-8 * abs(x).sum(0)).all()


def cotangent(rng, name, case, dtype):
    shape = Op.registry[name].rule(*exact(case).inputs, **case.options)[0].shape
    return np.asarray(signed(rng, shape)).astype(dtype_of_value(name, shape, dtype))


def dtype_of_value(name, shape, dtype):
    return dtype if shape and name not in PRECISE else wide(np.dtype(dtype))
