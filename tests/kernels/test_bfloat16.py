"""Products of bfloat16 numbers on a CPU: against the rules, by each of the processor's ways, and absent elsewhere."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts_by_threads import parts_by_threads
from small_gpt import random_tokens, tiny

from tinygrad_lm import kernels, no_grad, ops
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.numpy import cross_entropy as classifier
from tinygrad_lm.models import GPT
from tinygrad_lm.nn.context import computing
from tinygrad_lm.ops.dropout import keep
from tinygrad_lm.testing import checks
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.cases import CASES
from tinygrad_lm.testing.drawing import seeds, signed

KEY = "cpu", "float32/bfloat16"
if KEY not in ops.linear.implementations:
    why = "this processor multiplies no bfloat16 numbers" if find_spec("numba") else "Numba is not installed"
    pytest.skip(why, allow_module_level=True)

ROOM = "tinygrad_lm.kernels.bfloat16"
attention, kept, linear, tiles = (import_module(f"{ROOM}.{x}") for x in ("attention", "kept", "linear", "tiles"))

NAMES = sorted(name for name, op in vars(ops).items() if KEY in getattr(op, "implementations", ()))
DROPPED = 0, "dropout/x", 1, 2
U = 2**-8  # the largest relative error of rounding


@pytest.fixture(params=["tiles", "vectors"], autouse=True)
def way(request, monkeypatch):
    """Each way to multiply, and blocks of 32 for few rows, too."""
    if request.param == "tiles" and not tiles.AMX:
        pytest.skip("this processor has no registers for tiles")
    for file in (tiles, attention):
        monkeypatch.setattr(file, "AMX", request.param == "tiles")
    for file in (linear, attention):
        monkeypatch.setattr(file, "FEW", 0)
    monkeypatch.setattr(classifier, "CHUNK", 48)


def rounded(x):
    """The nearest bfloat16 numbers, as float32."""
    return x.astype(ml_dtypes.bfloat16).astype(x.dtype)


def complete(name):
    """The implementation, and the definition for what it does not cover."""

    def rule(*arrays, **options):
        with computing(dtype_of("bfloat16"), "cpu"):
            return getattr(ops, name).run(*arrays, **options)

    return rule


def test_what_has_such_products():
    products = ["attention", "linear", "linear_cross_entropy", "linear_log_probability"]
    others = ["gelu_tanh", "layer_norm", "relu_squared", "rms_norm", "silu"]  # which keep their input in bfloat16
    assert sorted([*products, *others]) == NAMES


@given(data=st.data())
def test_linear_is_exact_for_numbers_that_need_no_rounding(data):
    case = data.draw(CASES["linear"]).to("float32")
    case = Case(tuple(rounded(x) for x in case.inputs), case.options)
    rng = np.random.default_rng(data.draw(seeds))
    y, gradients = checks.evaluate(ops.linear.rule, case.to("float64"))
    found, found_gradients = checks.evaluate(complete("linear"), case)
    checks.agree(found, y, "value", 2e-6)
    dy = rounded(signed(rng, y.shape).astype("float32"))
    for dx, expected in zip(found_gradients(dy), gradients(dy.astype("float64")), strict=True):
        checks.agree(dx, expected, "gradient", 2e-6)
        assert dx.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_near_the_rule(name, data):
    case = data.draw(CASES[name]).to("float32")
    rng = np.random.default_rng(data.draw(seeds))
    y, gradients = checks.evaluate(getattr(ops, name).rule, case.to("float64"))
    found, found_gradients = checks.evaluate(complete(name), case)
    dy = signed(rng, y.shape).astype("float32")
    pairs = [(found, y), *zip(found_gradients(dy), gradients(dy.astype("float64")), strict=True)]
    for i, (a, b) in enumerate(pairs):
        if b is not None:
            assert a.dtype == np.float32
            size = max(1.0, *(float(np.abs(x).max(initial=0)) for x in (b, *case.inputs) if x.dtype.kind == "f"))
            assert np.abs(a - b).max(initial=0) < 8 * U * size**2, (name, i)


SHAPES = [(1, 1, 1), (16, 32, 16), (33, 70, 65), (100, 129, 17), (64, 1100, 31), (64, 1100, 40), (40, 20, 600)]


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
@pytest.mark.parametrize(("M", "K", "N"), SHAPES)
def test_products_of_any_shape_and_order(M, K, N, transposed, add):
    rng = np.random.default_rng(0)
    a = signed(rng, (K, M) if "a" in transposed else (M, K)).astype("float32")
    b = signed(rng, (N, K) if "b" in transposed else (K, N)).astype("float32")
    a, b = a.T if "a" in transposed else a, b.T if "b" in transposed else b
    bias = np.zeros(0, "float32") if add else signed(rng, (N,)).astype("float32")
    before = signed(rng, (M, N)).astype("float32")
    found = tiles.product(tiles.rows(a), tiles.columns(b), before.copy(), bias, add)
    exact = rounded(a).astype("float64") @ rounded(b).astype("float64") + (before if add else bias)
    np.testing.assert_allclose(found, exact, atol=1e-6 * K, rtol=1e-6)
    rows, others = tiles.both(np.ascontiguousarray(a), True)
    assert np.array_equal(rows, tiles.rows(a))
    assert np.array_equal(others, tiles.rows(a.T))
    assert np.array_equal(tiles.both(np.ascontiguousarray(a), False)[1], tiles.columns(a))


def test_rounding_is_to_the_nearest_and_keeps_what_is_special():
    bits = np.arange(2**16, dtype=np.uint32) << 16
    near = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    x = np.concatenate([bits + part for part in near]).view(np.float32)
    normal = (np.abs(x) >= np.finfo(np.float32).tiny) & (np.abs(x) < 3.38e38) | (x == 0) | np.isinf(x)
    found = tiles.rows(x.reshape(-1, 32)).transpose(0, 2, 1, 3).reshape(-1)[: x.size].view(ml_dtypes.bfloat16)
    assert np.array_equal(found[normal].astype(np.float32), rounded(x[normal]))
    assert np.array_equal(np.isnan(found.astype(np.float32)), np.isnan(x))


def test_what_is_kept_is_rounded_to_the_nearest():
    bits = np.arange(2**16, dtype=np.uint32) << 16
    x = np.concatenate([bits + part for part in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).view(np.float32)
    found, number = kept.widened(kept.kept(x)), np.isfinite(x)
    assert np.array_equal(found[number], rounded(x[number]))
    assert np.array_equal(found[np.isinf(x)], x[np.isinf(x)])
    assert np.array_equal(np.isnan(found), np.isnan(x))


@pytest.mark.parametrize("name", ["gelu_tanh", "relu_squared", "silu"])
def test_an_activation_s_gradient_is_that_at_the_rounded_input(name):
    """Up to float32's rounding; 5,000 numbers are two parts."""
    x, dy = np.linspace(-6, 6, 5000, dtype="f4"), signed(np.random.default_rng(0), 5000).astype("f4")
    (y, backward), single = complete(name)(x), getattr(ops, name).implementations["cpu", "float32"]
    np.testing.assert_allclose(y, single(x)[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(backward(dy)[0], single(rounded(x))[1](dy)[0], rtol=1e-6, atol=1e-6)


def attention_is_near_the_rule(rng, q, k, v, **options):
    """Value and gradients, for the definition's own masks of dropped weights."""
    with kernels.disabled():
        y, gradients = ops.attention.rule(*(x.astype("float64") for x in (q, k, v)), **options)
    found, found_gradients = attention.attention_in_bfloat16(q, k, v, **options)
    dy = signed(rng, y.shape).astype("float32")
    for a, b in zip((found, *found_gradients(dy)), (y, *gradients(dy.astype("float64"))), strict=True):
        assert np.abs(a - b).max() < 4 * U * np.abs(b).max()
        assert np.linalg.norm(a - b) < 2 * U * np.linalg.norm(b)


@pytest.mark.parametrize("T", [5, 40, 300])
@pytest.mark.parametrize("more", [0, 37])
@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("options", ["causal", "all", "documents"])
def test_attention_of_many_sizes(T, more, R, options):
    rng = np.random.default_rng(T + more + R)
    if options == "documents" and more:
        more = 0
    B, S, G, D = 3, T + more, 2, 24
    q, k, v = (signed(rng, (B, n, h, D)).astype("float32") for n, h in ((T, R * G), (S, G), (S, G)))
    keywords = {"causal": options != "all"}
    if options == "documents":
        keywords["document_starts"] = np.minimum(np.arange(T), np.arange(T) // 13 * 13)[None].repeat(B, 0)
    attention_is_near_the_rule(rng, q, k, v, **keywords)


@pytest.mark.parametrize("name", NAMES)
def test_nan_comes_out(name):
    rng = np.random.default_rng(0)
    arrays = {
        "attention": [(1, 40, 2, 8)] * 3,
        "linear": [(40, 8), (8, 12), (12,)],
        "layer_norm": [(40, 8), (8,), (8,)],
        "rms_norm": [(40, 8), (8,)],
    }.get(name, [(40, 8), (8, 12)])
    arrays = arrays[: len(getattr(ops, name).parameters)]
    arrays = [signed(rng, shape).astype("float32") for shape in arrays]
    targets = [rng.integers(0, 12, 40)] if "linear_" in name else []
    for x in arrays:
        kept = x.flat[-1]
        x.flat[-1] = np.nan
        assert np.isnan(complete(name)(*arrays, *targets)[0]).any()
        x.flat[-1] = kept
    assert np.isfinite(complete(name)(*arrays, *targets)[0]).all()


@pytest.fixture(params=["gpt2", "modern"])
def pair(request):
    """The same weights, with products of bfloat16 numbers and in float32."""
    config = tiny(request.param, n_embd=32, vocab_size=50, zero_init=False)
    return GPT(config, seed=1, dtype="bfloat16"), GPT(config, seed=1)


def test_only_products_round(pair):
    half, single = pair
    x, y = random_tokens(half.config, B=4, T=5)
    losses = [model.loss(x, y) for model in pair]
    for loss in losses:
        assert loss.dtype == np.float32
        loss.backward()
    assert half.features(x).dtype == half(x).dtype == half.flat.grad.dtype == np.float32
    assert 0 < abs(losses[0].item() - losses[1].item()) < U
    assert 0 < np.linalg.norm(half.flat.grad - single.flat.grad) < 4 * U * np.linalg.norm(single.flat.grad)
    assert thread.products == ""  # outside of models all is as before
    with no_grad():
        assert half.loss(x, y).item() == losses[0].item()


def test_a_recomputed_block_has_the_same_gradients(pair):
    half, _ = pair
    x, y = random_tokens(half.config, B=4, T=5)
    half.loss(x, y).backward()
    expected = half.flat.grad.copy()
    half.flat.zero_grad()
    recomputed(*half.h)
    half.loss(x, y).backward()
    np.testing.assert_allclose(half.flat.grad, expected, rtol=1e-5, atol=1e-6)


def test_a_matrix_is_rounded_once_for_its_three_products_and_never_for_another():
    rng = np.random.default_rng(0)
    x, w = signed(rng, (40, 8)).astype("float32"), signed(rng, (8, 12)).astype("float32")
    with computing(dtype_of("bfloat16"), "cpu"):
        with no_grad():
            ops.linear.run(x, w)
            assert linear.last.rounded.transposed is None
        seen = [ops.linear.run(x, w) and linear.last.rounded for _ in "qkv"]  # recorded, so for the first once more
        assert seen[0] is seen[1] is seen[2]
        assert seen[0].transposed is not None

    def check(x):
        np.testing.assert_allclose(ops.linear.run(x, w)[0], rounded(x) @ rounded(w), rtol=1e-5, atol=1e-5)

    with computing(dtype_of("bfloat16"), "cpu"):
        for _ in range(20):  # of one size, and perhaps at an address that is used again
            check(signed(rng, (40, 8)).astype("float32"))
    for _ in range(2):
        with computing(dtype_of("bfloat16"), "cpu"):
            check(x)
        x *= 2  # the same array with other numbers, for another call


def test_threads_have_tiles_of_their_own():
    rng = np.random.default_rng(0)
    pairs = [[signed(rng, shape).astype("float32") for shape in ((200, 300), (300, 100))] for _ in range(8)]
    alone = [linear.linear_in_bfloat16(*pair)[0] for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for a, (b, _) in zip(alone, pool.map(lambda pair: linear.linear_in_bfloat16(*pair), pairs), strict=True):
                assert np.array_equal(a, b)


def test_definitions_alone_know_nothing_of_it(pair):
    x, _ = random_tokens(pair[0].config, B=2, T=5)
    with kernels.disabled():
        assert pair[0](x).dtype == "bfloat16"
        with computing(dtype_of("bfloat16"), "cpu") as dtype:
            assert dtype == "bfloat16"
    for dtype in ("float32", "float64", "float16"):
        with computing(dtype_of(dtype), "cpu") as found:
            assert found == dtype
            assert thread.products == ""


@pytest.mark.parametrize("T", [5, 40, 300])
@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("options", ["causal", "all", "documents"])
def test_attention_near_the_rule_with_dropped_weights(T, R, options):
    """Other queries than keys, and rows of weights that begin anywhere in a byte of bits."""
    rng = np.random.default_rng(T + R)
    B, S, G, D = 3, T + 37 * (options != "documents"), 2, 24
    q, k, v = (signed(rng, (B, n, h, D)).astype("float32") for n, h in ((T, R * G), (S, G), (S, G)))
    keywords = {"causal": options != "all", "p": 0.3, "key": DROPPED}
    if options == "documents":
        keywords["document_starts"] = (np.arange(T) // 13 * 13)[None].repeat(B, 0)
    attention_is_near_the_rule(rng, q, k, v, **keywords)


def test_few_queries_drop_weights_too(monkeypatch):
    """They are left to the kernel for float32."""
    monkeypatch.setattr(attention, "FEW", 6)
    q = signed(np.random.default_rng(0), (2, 5, 2, 8)).astype("float32")
    found, expected = (
        kernel(q, q, q, p=0.5, key=DROPPED)[0]
        for kernel in (attention.attention_in_bfloat16, attention.attention_in_one_pass)
    )
    assert np.array_equal(found, expected)
    checks.agree(found, ops.attention.rule(q, q, q, p=0.5, key=DROPPED)[0], "value", 2e-6)


@pytest.mark.parametrize("S", [33, 72])
@pytest.mark.parametrize("causal", [True, False])
def test_the_weights_dropped_are_the_definition_s(S, causal):
    """Equal scores, so that no weight is 0. Where v is the identity, y is the weights; where dy is, dv is."""
    zero = np.zeros((2, S, 3, S), np.float32)
    v = np.eye(S, dtype="float32")[None, :, None].repeat(2, 0)
    keywords = {"causal": causal, "p": 0.4, "key": DROPPED}
    with kernels.disabled():
        m = keep(np.zeros((2, 3, S, S), "float32"), 0.4, DROPPED) & (np.tri(S, dtype=bool) if causal else True)
    y, backward = attention.attention_in_bfloat16(zero, zero[:, :, :1], v, **keywords)
    assert np.array_equal(y.transpose(0, 2, 1, 3) != 0, m)
    for h in range(3):
        dy = zero.copy()
        dy[:, :, h] = v[:, :, 0]
        _, _, dv = backward(dy)
        assert np.array_equal(dv[:, :, 0].swapaxes(1, 2) != 0, m[:, h])


def test_attention_with_dropped_weights_has_the_same_bits_on_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    q, k, v, dy = (signed(rng, (4, 50, 3, 24)).astype("float32") for _ in range(4))
    monkeypatch.setattr(import_module("tinygrad_lm.kernels.numba.philox"), "LEAST", 10)

    def computed():
        y, backward = attention.attention_in_bfloat16(q, k, v, p=0.3, key=DROPPED)
        return b"".join(x.tobytes() for x in (y, *backward(dy)))

    expected = computed()
    for threads in (1, 5):
        with parts_by_threads(threads):
            assert computed() == expected


def test_sums_are_float32():
    """4,096 products of 1 and 1: bfloat16 sums would stop at 256."""
    ones = np.ones((32, 4096), np.float32)
    y, _ = linear.linear_in_bfloat16(ones, np.ones((4096, 8), np.float32))
    assert (y == 4096).all()
    assert math.isclose(linear.linear_in_bfloat16(ones * (1 + U / 4), np.ones((4096, 8), np.float32))[0][0, 0], 4096)


@pytest.mark.parametrize("hidden", ["NUMBA_CPU_FEATURES=+avx2,+fma", "hidden=numba"])
def test_absent_without_a_word(hidden):
    """Without Numba, or for a processor without the instructions, a model of this dtype rounds as its definition."""
    name, _, value = hidden.partition("=")
    program = f"""
import os, sys
if {name!r} == "hidden":
    sys.modules[{value!r}] = None
    import importlib.util
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == {value!r} else find(name, *rest)
else:
    os.environ[{name!r}] = {value!r}
import numpy as np
from tinygrad_lm import kernels, ops
from tinygrad_lm.models import GPT, GPTConfig
kernels.enable()
assert {KEY!r} not in ops.linear.implementations
model = GPT(GPTConfig(11, 8, 1, 2, n_embd=8), dtype="bfloat16")
assert model(np.zeros((1, 8), int)).dtype == "bfloat16"
print("as before")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("as before\n", 0), done.stderr
