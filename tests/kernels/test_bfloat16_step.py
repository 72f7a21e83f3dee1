"""A step with products of bfloat16 numbers: what is computed again, gradients in their place, Muon's update."""

import gc
import tracemalloc
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import Given, random_tokens, tiny

from tinygrad_lm import ops
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.models import GPT
from tinygrad_lm.nn.context import computing
from tinygrad_lm.optim import muon
from tinygrad_lm.threads import parallel, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.trainer import Trainer

if ("cpu", "float32/bfloat16") not in ops.linear.implementations:
    why = "this processor multiplies no bfloat16 numbers" if find_spec("numba") else "Numba is not installed"
    pytest.skip(why, allow_module_level=True)

ROOM = "tinygrad_lm.kernels.bfloat16"
tiles, updates = (import_module(f"{ROOM}.{x}") for x in ("tiles", "muon"))
again = import_module("tinygrad_lm.kernels.numba.again")
U = 2**-8  # the largest relative error of rounding
half = partial(computing, dtype_of("bfloat16"), "cpu")


def rounded(x):
    return x.astype(ml_dtypes.bfloat16).astype("float32")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


# ---- what is computed again


NAMES = ["gelu_tanh", "relu_squared", "silu", "layer_norm", "rms_norm"]


def inputs_of(name, M, C):
    """Of one of the operations; where it has weights, they differ from 1 and 0."""
    n = {"layer_norm": 2, "rms_norm": 1}.get(name, 0)
    return [normal(M, C), *(1 + normal(C, seed=i + 1) for i in range(n))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("M", [1, 31, 32, 100])
@pytest.mark.parametrize("C", [1, 33, 64])
def test_tiles_are_computed_again_from_what_is_kept(name, M, C):
    arrays = inputs_of(name, M, C)
    with half():
        y, _ = getattr(ops, name).run(*arrays)
        found = again.computed_again(y)()
    x = arrays[0]
    if name == "layer_norm":
        mean = x.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt(x.var(-1, keepdims=True) + np.float32(1e-5))
        expected = rounded(x - mean) * inverse * arrays[1] + arrays[2]
    elif name == "rms_norm":
        expected = rounded(x) / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-6)) * arrays[1]
    else:
        expected = getattr(ops, name).rule(rounded(x))[0]
    found, expected = (t.view(ml_dtypes.bfloat16).astype("float32") for t in (found, tiles.rows(expected.T)))
    np.testing.assert_allclose(found, expected, rtol=1.01 * U, atol=1e-4)  # they may fall on either side of a step


@pytest.mark.parametrize("name", NAMES)
def test_only_the_last_result_is_computed_again_and_only_for_gradients(name):
    x = inputs_of(name, 40, 8)
    run = lambda: getattr(ops, name).run(*x)[0]
    with half():
        y, other = run(), run()
        assert again.computed_again(other)
        assert again.computed_again(y) is again.computed_again(other.copy()) is None
        with no_grad():
            assert again.computed_again(run()) is None
        y = run()
    assert again.computed_again(y) is None  # for products of another kind


def test_a_norm_s_gradient_is_that_of_differences():
    """Numbers that are all near 1,000 differ by less than a step of bfloat16, which is 4 there."""
    x, dy = 1000 + normal(40, 32), normal(40, 32, seed=1)
    with half():
        y, backward = ops.layer_norm.run(x)
    expected, expected_backward = ops.layer_norm.rule(x.astype("float64"))
    np.testing.assert_allclose(y, expected, atol=1e-3)
    exact = expected_backward(dy.astype("float64"))[0]
    assert np.abs(backward(dy)[0] - exact).max() < 4 * U * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("preset", "numbers"), [("gpt2", 10), ("modern", 12)])
def test_what_a_block_keeps(preset, numbers, dtype):
    """Of a channel: the norms' inputs, q, k, v, their mixture, the MLP's four; and the inputs of q's and k's norms."""
    config = replace(tiny(preset), n_embd=64, n_head=2, n_kv_head=2, n_hidden=256, n_layer=5, block_size=64)
    model = GPT(replace(config, dropout=0.0), dtype=dtype)
    x, y = random_tokens(model.config, B=8, T=64)
    blocks, sizes = model.h, []
    for n in (1, 5, 1, 5):  # at first caches are filled
        model.h = blocks[:n]
        gc.collect()
        tracemalloc.start()
        loss = model.loss(x, y)
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del loss
    kept = (sizes[3] - sizes[2]) / 4 / (x.size * 64 * (2 if dtype == "bfloat16" else 4))
    assert numbers < kept < 1.1 * numbers


# ---- gradients in their place


def test_a_weight_s_gradient_is_added_where_it_lies():
    """The same as computed and then added, up to the order of the sum; and no other array is made for it."""
    x, w, dy, before = normal(100, 40), normal(40, 24), normal(100, 24), normal(40, 24, seed=2)
    with half():
        _, backward = ops.linear.run(x, w)
    dw = backward(dy)[1]
    alone = dw()
    there = before.copy()
    assert dw.plus(there, there) is there
    np.testing.assert_allclose(there, before + alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(dw.plus(before), before + alone)
    across = np.asfortranarray(before)
    dw.plus(across, across)
    np.testing.assert_array_equal(across, before + alone)
    assert not np.array_equal(there, before)


def test_gradients_of_two_backward_passes_add_up():
    model = GPT(tiny("gpt2"), dtype="bfloat16")
    x, y = random_tokens(model.config, B=4, T=5)
    model.loss(x, y).backward()
    once = model.flat.grad.copy()
    model.loss(x, y).backward()
    np.testing.assert_allclose(model.flat.grad, 2 * once, rtol=1e-5, atol=1e-7)
    assert np.linalg.norm(once) > 0


# ---- Muon


def largest(x):
    return np.linalg.norm(x.astype("float64"), 2)


SHAPES = [(70, 33), (33, 70), (64, 64), (100, 256)]


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_near_its_definition(shape):
    """One update of w and of the momentum, by polynomials of which the first two leave room for rounding."""
    w, g, m = (normal(*shape, seed=i) for i in range(3))
    found = [x.copy() for x in (w, g, m)]
    with half():
        muon.update_all(found[0], [found], 0.5, 0.9)
    np.testing.assert_array_equal(found[1], g)
    np.testing.assert_allclose(found[2], 0.9 * m + g, rtol=1e-6, atol=1e-6)
    direction = muon.orthogonalize((g + 0.9 * (0.9 * m + g)).astype("float64"), updates.POLYNOMIALS)
    step, exact = w - found[0], 0.5 * max(1, shape[1] / shape[0]) ** 0.5 * direction
    assert 1e-5 < largest(step - exact) / largest(exact) < 0.1


@pytest.mark.parametrize("size", [0.05, 0.2, 0.5, 0.9, 1.0])
def test_the_polynomials_bring_singular_values_near_1(size):
    """Within the bounds of the definition's."""
    for a, b, c in updates.POLYNOMIALS:
        size = a * size + b * size**3 + c * size**5
    assert 0.18 < size < 1.88


def test_no_dominant_direction_explodes():
    """Rank one is where the largest singular value is 1, and equal entries are where all products round the same way.

    With the definition's polynomials these would become hundreds.
    """
    most = 0.0
    for m in range(1, 130, 3):
        for n in range(1, 130, 4):
            with half():
                found = updates.orthogonal(np.ones((m, n), "float32"))
            most = max(most, np.linalg.norm(found))  # the singular value, for there is but one
    assert 1.8 < most < 1.9


@given(m=st.integers(2, 80), n=st.integers(2, 80), seed=st.integers(0, 99), noise=st.sampled_from([0, 1e-5, 1e-3, 0.1]))
def test_one_dominant_direction_stays_below_two(m, n, seed, noise):
    x = np.outer(normal(m, seed=seed), normal(n, seed=seed + 100)) + noise * normal(m, n, seed=seed + 200)
    with half():
        assert largest(updates.orthogonal(x.astype("float32"))) < 1.95


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-7, 1e30])
def test_gradients_of_any_size(size):
    """What is too small for a direction makes no step, as in the definition."""
    g = np.float32(size) * normal(40, 24)
    with half(), np.errstate(over="ignore"):
        found = updates.orthogonal(g.copy())
        expected = muon.orthogonalize(g.astype("float64"), updates.POLYNOMIALS)
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trainer_updates_as_it_computes(dtype, monkeypatch):
    """Muon's products round in a model of this dtype, and in no other."""
    seen = []
    for file, name in ((updates, "orthogonal"), (muon, "orthogonalize")):
        function = getattr(file, name)
        monkeypatch.setattr(file, name, lambda *x, f=function, name=name: seen.append(name) or f(*x))
    config = TrainConfig(**RECIPES["modern"] | {"steps": 9, "batch_size": 4})
    model = GPT(tiny("modern"), dtype=dtype)
    x, y = random_tokens(model.config, B=4, T=5)
    trainer, expected = Trainer(model, Given(lambda step, part: (x, y)), config), {"bfloat16": "orthogonal"}
    trainer.step(0)
    for optimizer in trainer.optimizers:  # as in a loop of one's own
        optimizer.step()
    assert set(seen) == {expected.get(dtype, "orthogonalize")}


def test_muon_has_the_same_bits_on_any_number_of_threads():
    """With partners, and in threads of `workers`, which have one core each."""
    x = normal(64, 96)

    def orthogonal(x):
        with half():
            return updates.orthogonal(x.copy())

    alone = orthogonal(x)
    with workers(2):
        for found in parallel(orthogonal, [x] * 4):
            assert np.array_equal(found, alone)
