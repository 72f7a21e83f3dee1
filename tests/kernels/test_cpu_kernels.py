"""Every CPU kernel on its rule's cases: the same value and gradients, and all that must hold of a rule."""

import math
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import Given

from tinygrad_lm import kernels, ops
from tinygrad_lm.engine.observe import within
from tinygrad_lm.engine.op import Op
from tinygrad_lm.kernels.numpy import attention as numpy_attention
from tinygrad_lm.kernels.numpy import cross_entropy as numpy_classifier
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.ops import attention
from tinygrad_lm.optim import adamw, clipping
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.trainer import Trainer

NUMBA = find_spec("numba") is not None


def registered(op, room):
    """The implementations of an operation that come from a room. All are registered for a dtype that no other takes."""
    found = {f for (device, _), f in op.implementations.items() if device == "cpu"}
    return {f for f in found if f".{room}." in f.__module__}


IMPLEMENTATIONS = sorted(
    {
        (name, implementation)
        for name, op in Op.registry.items()
        for room in ("numpy", "numba")
        for implementation in registered(op, room)
    },
    key=lambda pair: pair[1].__name__,
)
every_kernel = pytest.mark.parametrize(
    ("name", "kernel"), IMPLEMENTATIONS, ids=[kernel.__name__ for _, kernel in IMPLEMENTATIONS]
)
every_attention = pytest.mark.parametrize(
    "kernel", [kernel for name, kernel in IMPLEMENTATIONS if name == "attention"], ids=lambda kernel: kernel.__name__
)
CLASSIFIERS = {"linear_cross_entropy", "linear_log_probability"}
numba_only = pytest.mark.skipif(not NUMBA, reason="Numba is not installed")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks so small that the drawn cases take several."""
    monkeypatch.setattr(numpy_attention, "ROWS", 2)
    monkeypatch.setattr(numpy_attention, "CACHE", 24)  # one sequence or two
    monkeypatch.setattr(numpy_classifier, "CHUNK", 48)  # two rows of three float64
    if NUMBA:
        monkeypatch.setattr(import_module("tinygrad_lm.kernels.numba.matmul"), "LARGE", 0)
        monkeypatch.setattr(import_module("tinygrad_lm.kernels.numba.elementwise"), "LONG", 0)
        monkeypatch.setattr(import_module("tinygrad_lm.kernels.numba.embedding"), "COLUMNS", 1)
        loops = (
            "activation",
            "adamw",
            "cross_entropy",
            "dropout",
            "elementwise",
            "flat",
            "normalize",
            "philox",
            "rotary",
        )
        for name in loops:
            monkeypatch.setattr(import_module(f"tinygrad_lm.kernels.numba.{name}"), "LEAST", 1)


def test_there_are_kernels():
    names = {name for name, _ in IMPLEMENTATIONS}
    assert names == ({"attention", "gelu_tanh", *CLASSIFIERS} if not NUMBA else {
        "add", "attention", "cross_entropy", "dropout", "embedding", "gelu_tanh", "layer_norm", "linear", *CLASSIFIERS,
        "log_probability", "relu_squared", "rms_norm", "rotary", "silu",
    })  # fmt: skip


def complete(name, kernel):
    """The implementation, and the definition for what it does not cover."""

    def rule(*arrays, **options):
        found = kernel(*arrays, **options)
        return Op.registry[name].rule(*arrays, **options) if found is NotImplemented else found

    return rule


def dtypes_of(kernel):
    return {"float32": 2e-6} if ".numba." in kernel.__module__ else {"float64": 1e-12, "float32": 2e-6}


@every_kernel
@given(data=st.data())
def test_implementation_agrees_with_its_definition(name, kernel, data):
    op, case = Op.registry[name], data.draw(CASES[name])
    rng = np.random.default_rng(data.draw(seeds))
    for dtype, tolerance in dtypes_of(kernel).items():
        case = case.to(dtype)
        y, gradients = checks.evaluate(op.rule, case.to("float64"))  # without the definition's own roundings
        found, found_gradients = checks.evaluate(complete(name, kernel), case)
        checks.agree(found, y, "value", tolerance)
        assert found.dtype == dtype
        u = signed(rng, y.shape).astype(dtype)
        _, definition_s = checks.evaluate(op.rule, case)
        nearby = [(u * (1 + rng.uniform(-1e-3, 1e-3, u.shape))).astype(dtype) for _ in range(8)]
        for i, (dx, expected) in enumerate(zip(found_gradients(u), gradients(u.astype("float64")), strict=True)):
            if expected is not None:
                # Where terms cancel, such as of two channels, the definition too is less exact, here or close by.
                errors = [definition_s(v)[i] - gradients(v.astype("float64"))[i] for v in (u, *nearby)]
                limit = max(tolerance, 4 * float(np.abs(errors).max(initial=0)))
                checks.agree(dx, expected, f"gradient of input {i}", limit)


@every_kernel
@pytest.mark.parametrize("check", checks.CHECKS)
@given(data=st.data())
def test_dispatch_is_a_rule(name, kernel, check, data):
    """All that must hold of a rule holds with the implementations that are chosen by dtype."""
    case = data.draw(CASES[name])
    checks.CHECKS[check](Op.registry[name].run, case, np.random.default_rng(data.draw(seeds)))


@every_kernel
@given(data=st.data())
def test_nan_comes_out_in_float32(name, kernel, data):
    case = data.draw(CASES[name]).to("float32")
    checks.nan_comes_out(complete(name, kernel), case, np.random.default_rng(data.draw(seeds)))


@every_attention
def test_future_gradients_are_exactly_zero(kernel):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 7, 2, 4)).astype("float32")
    y, backward = kernel(q, k, v)
    for t in range(7):
        dy = np.zeros_like(y)
        dy[:, t] = rng.standard_normal(dy[:, t].shape)
        _, dk, dv = backward(dy)
        assert not dk[:, t + 1 :].any()
        assert not dv[:, t + 1 :].any()


@every_attention
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_blocks_leave_out_the_keys_of_other_documents_alone(kernel, dtype, together, monkeypatch):
    """Three sequences, each in its own block or all in one, whose documents begin at different places."""
    if dtype not in dtypes_of(kernel):
        pytest.skip(f"{kernel.__name__} is for float32")
    monkeypatch.setattr(numpy_attention, "CACHE", 10_000 if together else 1)
    rng = np.random.default_rng(0)
    q, dy = rng.standard_normal((2, 3, 7, 4, 2)).astype(dtype)
    k, v = rng.standard_normal((2, 3, 9, 2, 2)).astype(dtype)  # two keys before the first query
    for starts in ([[0, 0, 1, 4, 4, 4, 4], [1, 3, 3, 5, 5, 5, 8], [2] * 7], [[2, 3, 1, 4, 3, 6, 7], [2] * 7, [1] * 7]):
        y, backward = kernel(q, k, v, document_starts=np.array(starts))
        expected, expected_backward = attention.rule(q, k, v, document_starts=np.array(starts))
        tolerance = 1e-12 if dtype == "float64" else 2e-6
        checks.agree(y, expected, "value", tolerance)
        for found, right in zip(backward(dy), expected_backward(dy), strict=True):
            checks.agree(found, right, "gradient", tolerance)


@pytest.mark.parametrize("tied", [False, True])
def test_the_classifier_never_holds_all_logits(tied, monkeypatch):
    """2,000 rows of 500 logits are 4 MB; a chunk's, their gradient and what the softmax needs are 0.6. Where nothing
    is recorded chunks are four times as long, there is no gradient, and the compiled softmax needs nothing."""
    monkeypatch.setattr(numpy_classifier, "CHUNK", 100 * 500 * 4)
    kernel = ops.linear_cross_entropy.run
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2000, 16)).astype("f4"), rng.standard_normal((500, 16)).astype("f4").T
    w, targets = w if tied else w.copy("C"), rng.integers(0, 500, 2000)
    found = {}
    for recorded in (True, False):
        with within(recording=recorded):
            kernel(x, w, targets)  # what is compiled or imported is not counted
            tracemalloc.start()
            y, backward = kernel(x, w, targets)
            found[recorded], most = y, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert most < (1.2e6 if recorded or NUMBA else 2.5e6)
        assert (backward is not None) == recorded
        if recorded:
            assert backward(np.float32(2))[1]().flags.f_contiguous == tied  # dw lies as w does
    assert found[True] == pytest.approx(found[False], rel=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_nor_does_it_for_log_probabilities(tied, monkeypatch):
    """Of 4 MB of logits a chunk's 0.2, their gradient and what the softmax needs."""
    monkeypatch.setattr(numpy_classifier, "CHUNK", 100 * 500 * 4)
    kernel = ops.linear_log_probability.run
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((20, 101, 16)).astype("f4"), rng.standard_normal((500, 16)).astype("f4").T
    w, targets = w if tied else w.copy("C"), rng.integers(0, 500, (20, 101))
    dy = rng.standard_normal(targets.shape).astype("f4")
    kernel(x, w, targets)[1](dy)  # what is compiled or imported is not counted
    tracemalloc.start()
    _, backward = kernel(x, w, targets)
    dw = backward(dy)[1]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1.2e6
    assert dw.flags.f_contiguous == tied  # dw lies as w does


@pytest.mark.parametrize("chunk", [1, 50 * 4, 100 * 50 * 4])
def test_the_bits_of_a_log_probability_do_not_depend_on_recording(chunk, monkeypatch):
    """Chunks of other lengths would change them: a product of one row adds up in another order than one of four."""
    monkeypatch.setattr(numpy_classifier, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((70, 300)).astype("f4"), rng.standard_normal((300, 50)).astype("f4")
    found = []
    for recorded in (True, False):
        with within(recording=recorded):
            found.append(ops.linear_log_probability.run(x, w, np.arange(70) % 50)[0].tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_log_probability"])
def test_few_logits_are_no_work_for_chunks(name, monkeypatch):
    """Then gradients are computed on the way back, and only those that are wanted."""
    monkeypatch.setattr(numpy_classifier, "CHUNK", 2**20)
    monkeypatch.setattr(numpy_classifier, "add_product", None)
    x, w = np.ones((3, 4, 2), "f4"), np.ones((2, 5), "f4")
    y, backward = Op.registry[name].run(x, w, np.zeros((3, 4), int))
    np.testing.assert_allclose(abs(y), math.log(5), rtol=1e-6)
    assert all(callable(dx) for dx in backward(np.ones_like(y))[:2])


def linear_on_cpu():
    return import_module("tinygrad_lm.kernels.numba.matmul").linear_on_cpu


@numba_only
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9])
def test_few_rows_and_many_columns(rows, columns):
    """More columns than a tile has, a tile that is not full, rows and channels beside the unrolled ones; any layout."""
    rng = np.random.default_rng(rows)
    x, b = rng.standard_normal((rows, 1, 21)).astype("float32"), rng.standard_normal(1000).astype("float32")
    w = rng.standard_normal((1000, 21)).astype("float32").T if columns else rng.standard_normal((21, 1000)).astype("f4")
    kernel = complete("linear", linear_on_cpu())
    expected = (x.astype("float64") @ w + b).astype("float32")
    checks.agree(kernel(x, w, b)[0], expected, "value", 2e-6)


@numba_only
def test_two_threads_may_ask_at_once():
    """The partners serve one thread at a time; another computes alone, and both are right."""
    x, w = np.ones((2, 80), "f4"), np.ones((80, 4000), "f4")
    kernel = complete("linear", linear_on_cpu())
    kernel(x, w)
    lock = import_module("tinygrad_lm.kernels.numba.together").partners.one_at_a_time
    with lock:
        assert (kernel(x, w)[0] == 80).all()
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: (kernel(x, w)[0] == 80).all(), range(200)))
    assert not lock.locked()


@numba_only
@given(data=st.data())
def test_exp_over_its_whole_range(data):
    """Three roundings; 0 and infinity where float32 ends, and nothing is made of NaN."""
    exp = import_module("tinygrad_lm.kernels.numba.compile").exp
    x = np.float32(data.draw(st.floats(-87.25, 88.25, width=32)))
    assert exp(x) == pytest.approx(math.exp(x), rel=3e-7)
    assert [exp(np.float32(x)) for x in ("inf", "-inf", "1e5", "-1e5")] == [math.inf, 0, math.inf, 0]
    assert math.isnan(exp(np.float32("nan")))


@numba_only
@given(seeds, st.integers(0, 40), st.floats(0, 0.5), st.integers(1, 1000))
def test_adamw_in_one_pass_is_the_update(seed, size, decay, t):
    w, g, m, v = np.random.default_rng(seed).standard_normal((4, size)).astype("float32")
    found, expected = [[w.copy(), g, m.copy(), v * v] for _ in range(2)]
    constants = 0.01, 0.9, 0.99, 1 - 0.9**t, 1 - 0.99**t, 1e-8, decay
    adamw.update.implementation("cpu", np.dtype("f4"))(*found, *constants)
    adamw.update.definition(*expected, *constants)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6)


@numba_only
@pytest.mark.parametrize(("size", "least"), [(0, 1), (1, 1), (41, 1), (3001, 300), (2**17, 2**17)])
def test_the_passes_over_the_gradient_are_the_definitions(size, least, monkeypatch):
    """With a last part, and a last block of a part, that are not full. The mean of 2¹⁷ equal squares, were they all
    added in float32, would be wrong by 1e-5."""
    monkeypatch.setattr(import_module("tinygrad_lm.kernels.numba.flat"), "LEAST", least)
    x = np.full(size, 1.1, "f4")
    x[: size // 2] *= np.linspace(0.5, 1, size // 2, dtype="f4") if size < 2**17 else 1
    squares, scale = (getattr(clipping, name).implementation("cpu", x.dtype) for name in ("sum_of_squares", "scale"))
    found, right = squares(x), (x.astype("f8") ** 2).sum()
    assert found is NotImplemented if not right else found == pytest.approx(right, rel=1e-6)
    expected = x * np.float32(0.3)
    scale(x, 0.3)
    np.testing.assert_array_equal(x, expected)


@numba_only
def test_sums_of_unlike_arrays_are_numpy_s():
    total, a = import_module("tinygrad_lm.kernels.numba.elementwise").total, np.ones((4, 6), "f4")
    assert (total(a, a) == 2).all()
    for b in (a.astype("f8"), a[:1], a.reshape(6, 4), a[None], np.asfortranarray(a)):
        assert total(a, b) is total(b, a) is NotImplemented


@numba_only
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["gelu_tanh", "relu_squared", "silu", "layer_norm", "rms_norm"])
def test_a_product_s_input_is_computed_again_with_the_same_bits(name, bias):
    """The same gradients as if it had been kept; it is gone, and computed once for all products of it."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype("f4")
    x, w, b, dy = normal(3, 2000, 8), normal(8, 6), normal(6), normal(3, 2000, 6)
    y, _ = getattr(ops, name).run(x)
    made, expected = weakref.ref(y), y.copy()
    arrays = (w, b) if bias else (w,)
    products = [ops.linear.run(y, *arrays) for _ in "qk"]
    again = import_module("tinygrad_lm.kernels.numba.again").last.again
    del y
    assert made() is None
    for z, backward in products:
        found, rule = backward(dy), ops.linear.rule(expected, *arrays)
        np.testing.assert_array_equal(z, rule[0])
        for a, e in zip(found, rule[1](dy), strict=True):
            np.testing.assert_array_equal(a() if callable(a) else a, e() if callable(e) else e)
    assert again() is again()
    np.testing.assert_array_equal(again(), expected)


@pytest.mark.parametrize("preset", ["modern", "nanogpt-cpu"])
def test_training_with_kernels_and_without_agrees(preset):
    """Twenty steps on the same batches: the losses differ by rounding."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 11}
    config = TrainConfig(**RECIPES[preset] | {"steps": 20, "batch_size": 4})
    tokens = np.random.default_rng(0).integers(0, 11, (20, 4, 17)).astype("int32")

    batches = Given(lambda step, part: (tokens[step, :, :-1], tokens[step, :, 1:]))

    def losses(trainer):
        return [trainer.step(step)[0] for step in range(20)]

    one, other = (Trainer(GPT(replace(PRESETS[preset], **shape)), batches, config) for _ in "ab")
    found = losses(one)
    with kernels.disabled():
        expected = losses(other)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not NUMBA or found != expected  # other code did run
