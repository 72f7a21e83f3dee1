"""A model that computes in half precision: its weights and their gradients are float32."""

import numpy as np
import pytest
from small_gpt import random_tokens, tiny

from tinygrad_lm import kernels, nn, no_grad, optim
from tinygrad_lm.adapt import lora, merge
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.models import GPT
from tinygrad_lm.nn.context import computing
from tinygrad_lm.ops import cross_entropy

every_half = pytest.mark.parametrize("half", ["bfloat16", "float16"])
every_preset = pytest.mark.parametrize("preset", ["gpt2", "modern"])
DIGITS = {"bfloat16": 2**-8, "float16": 2**-11}  # half of the distance from 1 to the next number


def flowing(half):
    """The dtype of what flows through a model of this dtype here: float32 where products alone are done in it."""
    with computing(dtype_of(half), "cpu") as dtype:
        return dtype


def pair(preset, half, **options):
    """The same weights, computed with in half and in single precision."""
    config = tiny(preset, n_embd=32, vocab_size=50, zero_init=False, **options)
    return GPT(config, seed=1, dtype=half), GPT(config, seed=1)


@every_half
@every_preset
@pytest.mark.parametrize("with_kernels", [True, False])
def test_dtypes(preset, half, with_kernels):
    model, single = pair(preset, half)
    x, y = random_tokens(model.config, B=2, T=5)

    def check():
        model.flat.zero_grad()
        assert model.dtype == half
        assert model.flat.data.dtype == model.flat.grad.dtype == np.float32
        assert np.array_equal(model.flat.data, single.flat.data)  # not rounded
        assert model.features(x).dtype == flowing(half)
        logits = model(x)
        assert logits.dtype == flowing(half)
        for loss in (cross_entropy(logits, y), model.loss(x, y)):
            assert loss.dtype == np.float32
            loss.backward()
        for name, p in model.flat.items():
            assert p.data.dtype == p.grad.dtype == np.float32
            assert p.grad.any() or name.endswith("c_k.bias"), name
        with no_grad():
            assert model.loss(x, y).dtype == np.float32

    if with_kernels:
        check()
    else:
        with kernels.disabled():
            check()


@every_half
@every_preset
def test_it_computes_in_half_precision_and_near_the_right_numbers(preset, half):
    model, single = pair(preset, half)
    x, y = random_tokens(model.config, B=4, T=5)
    losses = [m.loss(x, y) for m in (model, single)]
    for loss in losses:
        loss.backward()
    u = DIGITS[half]
    assert abs(losses[0].item() - losses[1].item()) < 4 * u
    difference = model.flat.grad - single.flat.grad
    assert 0 < np.linalg.norm(difference) < 8 * u * np.linalg.norm(single.flat.grad)


@every_half
@pytest.mark.parametrize("make", [optim.AdamW, optim.Muon], ids=["AdamW", "Muon"])
def test_steps_smaller_than_half_precision_shows_are_kept(half, make):
    """A step moves weights by less than the next number in half precision; a hundred of them are seen."""
    model, _ = pair("gpt2", half)
    x, y = random_tokens(model.config, B=4, T=5)
    p = model.h[0].mlp.c_fc.weight
    p.data[...] = np.sign(p.data) + (p.data == 0)  # where numbers of half precision are far apart: ±1
    before, first = p.data.copy(), model.loss(x, y).item()
    lr = DIGITS[half] / 100 if make is optim.AdamW else DIGITS[half] / 10
    optimizer = make([p], lr=lr, **({"weight_decay": 0.0} if make is optim.AdamW else {}))
    for step in range(100 if make is optim.AdamW else 1):
        model.loss(x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
        if not step:
            assert (p.data != before).mean() > 0.9
            assert np.array_equal(p.data.astype(dtype_of(half)), before.astype(dtype_of(half)))
    if make is optim.AdamW:
        assert (p.data.astype(dtype_of(half)) != before.astype(dtype_of(half))).any()
        assert model.loss(x, y).item() < first


@every_half
def test_what_is_saved_is_single_precision_and_whole(half):
    model, _ = pair("modern", half)
    model.flat.data += 1e-6
    arrays = {name: values.copy() for name, values in model.flat.arrays().items()}
    assert {values.dtype for values in arrays.values()} == {np.dtype("float32")}
    twin, single = pair("modern", half)
    for other in (twin, single):
        other.flat.load(arrays)
        assert np.array_equal(other.flat.data, model.flat.data)
    x, _ = random_tokens(model.config, B=2, T=5)
    assert np.array_equal(twin(x).data, model(x).data)
    assert twin(x).dtype == flowing(half)


@every_half
def test_parts_that_are_adapted_or_frozen_stay_in_single_precision(half):
    model = lora(pair("gpt2", half)[0], rank=2)
    x, y = random_tokens(model.config, B=2, T=5)
    nn.freeze(model, "h.0.*")
    model.loss(x, y).backward()
    assert model.flat.data.dtype == model.flat.grad.dtype == np.float32
    assert model.h[1].attn.c_q.lora_b.grad.any()
    assert merge(model)(x).dtype == flowing(half)
    assert model.flat.data.dtype == np.float32
