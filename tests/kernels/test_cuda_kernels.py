"""Every CUDA implementation against its definition: emulated without a GPU (cuda_emulator.py), on CuPy with -m gpu.

New arrays hold NaN beforehand, so what a kernel leaves out shows; float32 must agree to 1e-5, bfloat16 to 1e-2.
"""

from functools import partial

import cuda_emulator
import numpy as np
import pytest
import strict_array
from cuda_checks import TOLERANCE, agree, cotangent, expected, ids_outside_their_table, on_device, on_host
from cuda_emulator import KERNELS
from cuda_sizes import LARGER
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_but

from tinygrad_lm import ops
from tinygrad_lm.backend import dtype_of, random
from tinygrad_lm.engine.observe import within
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.kernels.cuda import columns as cuda_columns
from tinygrad_lm.kernels.cuda import compile as cuda_compile
from tinygrad_lm.kernels.cuda import embedding as cuda_embedding
from tinygrad_lm.optim import adamw
from tinygrad_lm.optim.clipping import scale, sum_of_squares
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import LAYOUTS, seeds
from tinygrad_lm.testing.strategies import keys

CLASSIFIERS = ("linear_cross_entropy", "linear_log_probability")
every_kernel = pytest.mark.parametrize("name", KERNELS)
few = settings(max_examples=settings.default.max_examples // 5)


@every_kernel
@few
@given(data=st.data())
def test_kernel_agrees_with_its_rule(xp, name, data):
    """On the rule's cases: small, empty, of any layout, the cotangent too."""
    case = data.draw(CASES[name]).to("float32")
    dy = cotangent(np.random.default_rng(data.draw(seeds)), name, case, "float32")
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    dy = np.asarray(layout(dy))
    agree(on_device(xp, name, case, dy), expected(name, case, dy), case, "float32")


@pytest.mark.parametrize("name", slow_but(KERNELS, "linear", "rms_norm", "cross_entropy"))
@pytest.mark.parametrize("dtype", TOLERANCE)
@few
@given(data=st.data())
def test_larger_sizes(xp, name, dtype, data):
    """Several packets, warps, blocks and strips; lengths that divide nothing. The same bits whatever comes first."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    case = data.draw(LARGER[name]).to(dtype)
    dy = cotangent(np.random.default_rng(data.draw(seeds)), name, case, dtype)
    results = []
    for order in (0, 1, 2, 3):
        cuda_emulator.order = order
        results.append(on_device(xp, name, case, dy))
    cuda_emulator.order = 0
    agree(results[0], expected(name, case, dy), case, str(np.dtype(dtype)), name)
    for other in results[1:]:
        for first, again in zip(results[0], other, strict=True):
            assert first is None or first.tobytes() == again.tobytes()


@every_kernel
@given(data=st.data())
@settings(max_examples=10)
def test_what_is_not_covered_goes_to_the_definition(xp, name, data):
    """Implementations refuse float64, and dispatch does not ask them."""
    op, case = Op.registry[name], data.draw(CASES[name])
    dy = cotangent(np.random.default_rng(0), name, case, "float64")
    cuda_emulator.LAUNCHED.clear()
    for (device, _), implementation in op.implementations.items():
        if device == "cuda":
            assert implementation(*map(xp.asarray, case.inputs), **case.options) is NotImplemented
    assert not cuda_emulator.LAUNCHED
    found = on_device(xp, name, case, dy)
    assert {"dropout"} >= cuda_emulator.LAUNCHED  # which draws the mask of a definition, too
    for x, right in zip(found, expected(name, case, dy), strict=True):
        if right is not None:
            assert x.dtype == "float64"


@pytest.mark.parametrize("name", ["linear", "layer_norm", "rms_norm", *CLASSIFIERS])
@few
@given(data=st.data())
def test_float32_weights_beside_half_inputs(xp, name, data):
    """They are used as bfloat16 would be, bit for bit; their gradients are float32 and have not been rounded."""
    bf16 = pytest.importorskip("ml_dtypes").bfloat16
    case = data.draw(LARGER[name]).to(bf16)
    x, *others = case.inputs
    mixed = Case((x, *(w.astype("f4") if w.dtype == bf16 else w for w in others)), case.options)
    dy = cotangent(np.random.default_rng(0), name, case, bf16)
    found, same = on_device(xp, name, mixed, dy), on_device(xp, name, case, dy)
    right = expected(name, case, dy)
    assert found[0].tobytes() == same[0].tobytes()
    for x, dx, rounded, exact in zip(mixed.inputs, found[1:], same[1:], right[1:], strict=True):
        if dx is not None:
            assert dx.dtype == x.dtype
            assert dx.astype(bf16).tobytes() == rounded.tobytes()
            if dx.dtype == "float32" and name not in CLASSIFIERS:  # whose logits are rounded
                checks.agree(dx.astype("f8"), checks.finished(exact, x), "gradient of a weight", 1e-5)


@every_kernel
@few
@given(data=st.data())
def test_nothing_handed_over_is_written_to(xp, name, data):
    case = data.draw(LARGER[name]).to("float32")
    inputs = [xp.asarray(x) for x in case.inputs]
    y, backward = Op.registry[name].run(*inputs, **case.options)
    dy = xp.asarray(cotangent(np.random.default_rng(0), name, case, "float32"))
    value, seed = y.get(), dy.get()
    first, second = on_host(backward(dy)), on_host(backward(dy))
    assert all(a is b or a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
    assert y.get().tobytes() == value.tobytes()
    assert dy.get().tobytes() == seed.tobytes()
    for x, before in zip(inputs, case.inputs, strict=True):
        assert x.get().tobytes() == before.tobytes()


@given(seeds, st.integers(1, 40), st.integers(1, 100), st.sampled_from([0.0, 0.1, 0.5, 0.999]), keys, st.booleans())
@few
def test_dropout_draws_the_definitions_mask(xp, seed, rows, n, p, key, whole):
    """Each row with its own counters; the kernel takes one row of any length, or rows of whole counters."""
    shape = (rows, 8 * n) if whole else (1, n)
    x = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    if p == 0.5:  # just above one of the numbers, which its last bit must decide
        *others, row = key
        drawn = random(*others, row + rows // 2 * whole).random(shape[1:], "float32")
        p = float(np.nextafter(drawn[n // 2], np.float32(0.9)))
    cuda_emulator.LAUNCHED.clear()
    y, backward = ops.dropout.run(xp.asarray(x), p=p, key=key)
    assert xp is not strict_array or {"dropout"} == cuda_emulator.LAUNCHED
    right, back = ops.dropout.rule(x, p=p, key=key)
    assert y.get().tobytes() == right.tobytes()
    assert backward(xp.asarray(x))[0].get().tobytes() == back(x)[0].tobytes()


@pytest.mark.parametrize("name", ["relu", "relu_squared", "dropout"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_mask_selects(xp, name, dtype):
    """What it leaves out has gradient 0, even where dy is infinite or NaN."""
    dtype = dtype_of(dtype)
    x = np.resize(np.array([-1.0, 0.0, 2.0], dtype), (2, 24))
    dy = np.resize(np.array([np.inf, -np.inf, np.nan, 1.0], dtype), (2, 24))
    case = Case((x,), {"p": 0.5, "key": (1, "test", 2, 3)} if name == "dropout" else {})
    found = on_device(xp, name, case, dy)
    right, back = Op.registry[name].rule(x.astype("f4"), **case.options)
    with np.errstate(invalid="ignore"):
        expected = right, back(dy.astype("f4"))[0]
    for array, exact in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array.astype("f4"), exact.astype(dtype).astype("f4"))


@few
@given(seeds, st.integers(1, 200), st.integers(1, 70))
def test_column_sums(xp, seed, N, C):
    """In one launch and in two, alone and added to what is there."""
    bf16 = pytest.importorskip("ml_dtypes").bfloat16
    x, there = (np.random.default_rng(seed).standard_normal(shape).astype("float32") for shape in ((N, C), C))
    for held in ("f4", bf16):
        x = x.astype(held)
        right, total = x.astype("float64").sum(0), xp.asarray(there)
        for y, before in (
            (cuda_columns.column_sums(xp.asarray(x)), 0),
            (cuda_columns.column_sums(xp.asarray(x), xp.asarray(there)), there),
            (cuda_columns.column_sums(xp.asarray(x), total, total), there),
        ):
            assert y.dtype == "f4"
            checks.agree(y.get(), right + before, "sums", 1e-5)
        assert y is total


def test_ids_outside_their_table_give_nan_and_no_gradient(xp):
    w = xp.asarray(np.ones((3, 4), "float32"))
    ids_outside_their_table(xp)
    for wrong in (-1, 4, 2**31 - 1, 2**32 + 1, 1 - 2**32):
        targets = xp.asarray(np.array([0, wrong, 0]))
        assert np.isnan(ops.cross_entropy.run(w, targets)[0].get())
        assert np.isnan(ops.linear_cross_entropy.run(w, w.T, targets)[0].get())
        assert np.isnan(ops.log_probability.run(w, targets)[0].get()).tolist() == [False, True, False]


@pytest.mark.parametrize(("N", "V", "IDS"), [(131_072, 50_304, 256), (500, 1500, 32)])
def test_many_positions_are_sorted_by_id(xp, monkeypatch, N, V, IDS):
    """As a stable sort would. In strips of 256 the counts would take 103 MB, so there are strips of 512. More blocks
    than a block has ids are added up in several turns."""
    monkeypatch.setattr(cuda_embedding, "STRIPS", (256, 512, 1024))
    monkeypatch.setattr(cuda_embedding, "TABLE", 2**24)
    monkeypatch.setattr(cuda_embedding, "IDS", IDS)
    zeros, tables = xp.zeros, []
    monkeypatch.setattr(xp, "zeros", lambda shape, dtype: tables.append(shape) or zeros(shape, dtype))
    ids = np.minimum(np.random.default_rng(0).zipf(1.2, N) - 1, V - 1).astype("int32")
    of = partial(cuda_compile.kernel, "embedding", like=xp.asarray(np.ones(1, "f4")), GROUPS=1)
    order, starts = cuda_embedding.by_id(xp.asarray(ids), V, of)
    assert np.array_equal(order.get(), np.argsort(ids, kind="stable"))
    assert np.array_equal(starts.get(), np.searchsorted(np.sort(ids), np.arange(V + 1)))
    assert tables == [(-(-N // (512 if N > 10_000 else 256)), V)]


def test_without_recording_the_classifier_computes_the_loss_alone(xp):
    """In three chunks, the last one short. One product each: the logits."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((19, 8)), rng.standard_normal((8, 40)), rng.integers(0, 40, 19)
    x, w, targets = (xp.asarray(x.astype("f4") if x.dtype.kind == "f" else x) for x in inputs)
    for recorded in (True, False):
        cuda_emulator.LAUNCHED.clear()
        with within(recording=recorded):
            y, backward = ops.linear_cross_entropy.run(x, w, targets)
        checks.agree(y.get(), ops.linear_cross_entropy.rule(*inputs)[0], "value", 1e-6)
        assert (backward is not None) == recorded
        assert xp is not strict_array or ("losses_and_gradients" in cuda_emulator.LAUNCHED) == recorded


def test_the_bits_of_a_log_probability_do_not_depend_on_recording(xp):
    """In three chunks, the last one short. Ignored ones are 0, and so are their gradients, whatever dy is there."""
    rng, found = np.random.default_rng(0), []
    x, w = (xp.asarray(rng.standard_normal(shape).astype("f4")) for shape in ((19, 8), (8, 40)))
    targets = rng.integers(0, 40, 19)
    targets[::3] = -100
    targets = xp.asarray(targets)
    for recorded in (True, False):
        with within(recording=recorded):
            y, backward = ops.linear_log_probability.run(x, w, targets)
        found.append(y.get().tobytes())
    assert found[0] == found[1]
    assert not y.get()[::3].any()
    dx = on_host(backward(xp.asarray(np.resize(np.array([np.nan, 1, 1], "f4"), 19))))[0]
    assert not dx[::3].any()
    assert np.isfinite(dx).all()


def test_the_gradient_of_many_chunks_is_added_up_in_float32(xp):
    """In bfloat16 128 times a number and once more is 128 times it: eight bits hold no more."""
    bf16 = pytest.importorskip("ml_dtypes").bfloat16
    x, w = np.ones((1000, 8), bf16), np.zeros((8, 8), bf16)
    _, backward = ops.linear_cross_entropy.run(xp.asarray(x), xp.asarray(w), xp.asarray(np.full(1000, 3)))
    dw = backward(xp.asarray(np.float32(1)))[1]().get().astype("f4")
    np.testing.assert_allclose(dw, np.full((8, 8), 1 / 8) - (np.arange(8) == 3), rtol=4e-3)


def test_a_loss_of_no_positions_and_of_impossible_ones(xp):
    x = np.random.default_rng(0).standard_normal((3, 70)).astype("float32")
    y, backward = ops.cross_entropy.run(xp.asarray(x), xp.asarray(np.full(3, -100)))
    assert y.get() == 0
    assert not backward(xp.asarray(np.float32(1)))[0].get().any()
    x[:, 1::2] = -np.inf
    case = (x, np.array([0, 2, 4]))
    y, backward = ops.cross_entropy.run(*map(xp.asarray, case))
    right, back = ops.cross_entropy.rule(*case)
    checks.agree(y.get(), right, "value", 1e-6)
    checks.agree(backward(xp.asarray(np.float32(1)))[0].get(), back(np.float32(1))[0], "gradient", 1e-6)
    x[0, 65] = np.nan
    assert np.isnan(ops.cross_entropy.run(*map(xp.asarray, case))[0].get())


@pytest.mark.parametrize("name", ["relu", "relu_squared", "silu", "gelu", "gelu_tanh"])
def test_activations_far_out(xp, name):
    """No infinity is made where there is none, and a NaN stays."""
    x = np.array([-1e10, -100, -20, -5, -0.0, 0, 5, 20, 100, 1e10, np.nan], "float32")
    y, dx = on_device(xp, name, Case((x,)), np.ones_like(x))
    right, back = Op.registry[name].rule(x.astype("float64"))
    np.testing.assert_allclose(y, right, rtol=2e-5, atol=1e-12)
    np.testing.assert_allclose(dx, back(1.0)[0], rtol=2e-4, atol=1e-5)


@few
@given(seeds, st.integers(1, 700), st.sampled_from([0, 1, 4]), st.floats(0, 0.5), st.integers(1, 1000))
def test_adamw_in_one_pass_is_the_update(xp, seed, size, skipped, decay, t):
    """In place on slices, which may begin anywhere; what lies beside them stays."""
    arrays = np.random.default_rng(seed).standard_normal((4, size + skipped)).astype("float32")
    arrays[3] **= 2
    constants = 0.01, 0.9, 0.99, 1 - 0.9**t, 1 - 0.99**t, 1e-8, decay
    here = slice(skipped, None)
    there = [xp.asarray(x.copy()) for x in arrays]
    cuda_emulator.LAUNCHED.discard("adamw")
    adamw.update(*(x[here] for x in there), *constants)
    assert xp is not strict_array or "adamw" in cuda_emulator.LAUNCHED
    adamw.update.definition(*(x[here] for x in arrays), *constants)
    for x, right in zip(there, arrays, strict=True):
        np.testing.assert_allclose(x.get(), right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 37, 4096])
def test_gradients_are_scaled_in_place(xp, n):
    g = np.random.default_rng(n).standard_normal(n + 1).astype("float32")
    for start in (0, 1):  # also where packets of 16 bytes do not begin
        there = xp.asarray(g)
        cuda_emulator.LAUNCHED.clear()
        scale(there[start:], xp.asarray(np.float32(0.3)))
        assert xp is not strict_array or start or "scale" in cuda_emulator.LAUNCHED
        np.testing.assert_array_equal(there.get()[start:], g[start:] * np.float32(0.3))
        np.testing.assert_array_equal(there.get()[:start], g[:start])


@few
@given(seeds, st.integers(1, 5000))
def test_a_sum_of_squares(xp, seed, n):
    g = np.random.default_rng(seed).standard_normal(n).astype("float32")
    found = []
    cuda_emulator.LAUNCHED.clear()
    for cuda_emulator.order in (1, 2, 0):
        found.append(sum_of_squares(xp.asarray(g)).get())
    assert xp is not strict_array or {"squares", "total"} == cuda_emulator.LAUNCHED
    assert found[0] == pytest.approx((g.astype("float64") ** 2).sum(), rel=1e-6)
    assert found[0].shape == ()
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("size", [1e20, 3e38, 1e-30])
def test_squares_beyond_float32_are_summed_as_any_others(xp, size):
    """1e20² overflows float32, and 1e-30² underflows; as on a CPU (tests/optim/test_optim.py) the sum does not."""
    g = np.full(300, size, "float32")
    found = sum_of_squares(xp.asarray(g)).get()
    assert found == pytest.approx((g.astype("float64") ** 2).sum(), rel=1e-12, abs=0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)], ids=str)
def test_a_table_that_is_no_matrix_is_refused_as_the_definition_does(xp, shape):
    w, ids = xp.asarray(np.ones(shape, "float32")), xp.asarray(np.array([0, 1]))
    with pytest.raises(ShapeError, match=r"the table needs two axes, found shape \("):
        ops.embedding(Tensor(w), ids)
