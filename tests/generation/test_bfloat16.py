"""Texts by a model whose products are of bfloat16 numbers: its weights are rounded once a text."""

import gc
import weakref
from importlib import import_module

import numpy as np
import pytest
from small_gpt import shaken, tiny

from tinygrad_lm import kernels
from tinygrad_lm.generation.generate import generate, generate_batch
from tinygrad_lm.models.gpt import GPT

pytest.importorskip("numba")
linear = import_module("tinygrad_lm.kernels.bfloat16.linear")
tiles = import_module("tinygrad_lm.kernels.bfloat16.tiles")
pytestmark = pytest.mark.skipif(not tiles.DTYPES, reason="the processor has no AVX512-BF16")
SIZES = {"vocab_size": 50, "block_size": 30, "n_embd": 16}


@pytest.fixture
def cut(monkeypatch):
    """The weights that were rounded, in order; kernels are in use."""
    weights = []
    monkeypatch.setattr(linear, "columns", lambda w, *new: weights.append(w) or tiles.columns(w, *new))
    monkeypatch.setattr(kernels.Replaceable, "enabled", True)
    return weights


def twins(name):
    """The same weights, of bfloat16's precision, in a model that rounds and in one that does not."""
    model = shaken(tiny(name, **SIZES))
    model.flat.data.view(np.uint32)[:] &= 0xFFFF0000
    half = GPT(model.config, dtype="bfloat16")
    half.flat.load(model.flat.arrays())
    return model, half


@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_each_weight_is_rounded_once_a_text(cut, name):
    _, half = twins(name)
    source = generate_batch(half, [[1, 2, 3], [4] * 20, [5]], 25)
    next(source)
    matrices = sum(p.ndim == 2 for p in half.flat.values())
    products = len(cut)
    assert products in (matrices, matrices - 1, matrices - 2)  # tables of tokens and positions may be for reading only
    assert len({(w.ctypes.data, w.shape) for w in cut}) == products
    assert len(list(source)) == 3 * 25 - 1  # the context is outgrown, too
    assert len(cut) == products


def test_texts_are_nearly_those_of_float32(cut):
    model, half = twins("modern")
    prompts = [[1, 2, 3], [7] * 20]
    two = [list(generate_batch(each, prompts, 8, temperature=0, logprobs=True)) for each in (model, half)]
    firsts = [text[:2] for text in two]
    for a, b in zip(*firsts, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=0.05)
        assert a.logprob != b.logprob  # what is multiplied by the weights was rounded


def test_weights_that_changed_between_two_texts_are_seen(cut):
    _, half = twins("gpt2")
    write = lambda: [drawn.logprob for drawn in generate_batch(half, [[1, 2, 3]], 4, temperature=0, logprobs=True)]
    first, kept = write(), half.flat.data.copy()
    half.flat.data[:] *= 0.5
    second = write()
    half.flat.data[:] = kept
    assert write() == first != second


def test_two_texts_of_two_models_take_turns(cut):
    one, two = twins("gpt2")[1], twins("modern")[1]
    alone = [list(generate(model, [1, 2], 9)) for model in (one, two)]
    assert list(zip(generate(one, [1, 2], 9), generate(two, [1, 2], 9), strict=True)) == list(zip(*alone, strict=True))


def test_an_abandoned_text_drops_its_rounded_weights(cut, monkeypatch):
    made, columns = [], tiles.columns

    def watched(w, *new):
        made.append(weakref.ref(found := columns(w, *new)))
        return found

    monkeypatch.setattr(linear, "columns", watched)
    source = generate(twins("gpt2")[1], [1, 2, 3], 9)
    next(source)
    assert all(ref() is not None for ref in made)
    assert made
    del source
    gc.collect()
    assert all(ref() is None for ref in made)
