"""The cache: a model that remembers keys and values computes what it would from the whole texts."""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import configs, random_tokens, shaken, tiny

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.nn.context import Context
from tinygrad_lm.testing.checks import agree

cache_module = import_module("tinygrad_lm.generation.cache")
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, params=[1, cache_module.LEAST], ids=["little room", "room"])
def room(request, monkeypatch):
    """Small models outgrow their room, too."""
    monkeypatch.setattr(cache_module, "LEAST", request.param)


@given(drawn=configs(), seed=seeds, rows=st.lists(st.integers(1, 3), min_size=1, max_size=3), data=st.data())
def test_with_and_without_a_cache(drawn, seed, rows, data):
    """However texts are cut into pieces and dealt out to caches, their logits are those of the whole."""
    config, T = drawn
    model = shaken(config, seed)
    tokens, _ = random_tokens(config, sum(rows), T, seed)
    cuts = data.draw(st.sets(st.integers(1, T)), label="cuts")
    context = Context(cache=tuple(Cache(config.block_size, n) for n in rows))
    pieces = [model(piece, context).data for piece in np.split(tokens, sorted(cuts - {T}), axis=1)]
    agree(np.concatenate(pieces, 1), model(tokens).data, "logits")
    for cache in context.cache:
        assert cache.length == T
        assert cache.lengths == {f"h.{i}.attn": T for i in range(config.n_layer)}


@given(drawn=configs(), seed=seeds, data=st.data())
def test_caches_of_different_lengths_in_one_call(drawn, seed, data):
    """Each row has the positions and the keys of its own cache."""
    config, T = drawn
    model = shaken(config, seed)
    rows = data.draw(st.lists(st.integers(1, 2), min_size=1, max_size=3), label="rows")
    lengths = data.draw(st.lists(st.integers(0, T - 1), min_size=len(rows), max_size=len(rows)), label="lengths")
    texts = [random_tokens(config, n, length + 1, seed)[0] for n, length in zip(rows, lengths, strict=True)]
    caches = [Cache(config.block_size, n) for n in rows]
    for text, cache, length in zip(texts, caches, lengths, strict=True):
        if length:
            model(text[:, :-1], Context(cache=(cache,)))
    found = model(np.concatenate([text[:, -1:] for text in texts]), Context(cache=tuple(caches))).data[:, -1]
    agree(found, np.concatenate([model(text).data[:, -1] for text in texts]), "logits")


@pytest.mark.slow
@settings(max_examples=40)
@given(drawn=configs(), seed=seeds, data=st.data())
def test_selected_rows_grow_differently(drawn, seed, data):
    """Rows in any order, some of them several times; the cache that they come from does not see what they add."""
    config, T = drawn
    model = shaken(config, seed)
    B, start = data.draw(st.integers(1, 3), label="B"), data.draw(st.integers(0, T - 1), label="start")
    indices = data.draw(st.lists(st.integers(0, B - 1), min_size=1, max_size=4), label="indices")
    tokens, _ = random_tokens(config, B, T, seed)
    cache = Cache(config.block_size, B)
    if start:
        model(tokens[:, :start], Context(cache=(cache,)))
    chosen = cache.select(indices)
    assert (chosen.rows, chosen.length, cache.length) == (len(indices), start, start)
    grown, _ = random_tokens(config, len(indices), T, seed + 1)
    grown = np.concatenate([tokens[indices, :start], grown[:, start:]], 1)
    expected = model(tokens).data, model(grown).data
    for t in range(start, T):  # by turns: the second would write over what the first has written
        for text, its, logits in zip((tokens, grown), (cache, chosen), expected, strict=True):
            agree(model(text[:, t : t + 1], Context(cache=(its,))).data[:, 0], logits[:, t], "logits")


def test_a_cache_cannot_outgrow_the_context():
    model = shaken(tiny("gpt2"))
    context = Context(cache=(Cache(5), Cache(5)))
    model(np.zeros((2, 3), int), context)
    with pytest.raises(ShapeError, match=r"tokens of shape \(2, 3\) after \(2, 3\) in the cache"):
        model(np.zeros((2, 3), int), context)


@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("rows", [(1,), (1, 1, 1), (3,)])
def test_caches_have_the_rows_of_the_batch(rows, position):
    model = shaken(tiny("gpt2", position=position))
    with pytest.raises(ShapeError, match=rf"tokens of shape \(2, 1\) after \({sum(rows)}, 0\) in the cache"):
        model(np.zeros((2, 1), int), Context(cache=tuple(Cache(5, n) for n in rows)))
    with pytest.raises(ShapeError, match=r"keys of shape \(1, 4, 2, 8\) for 2 texts"):
        Cache(5, 2).extend("h.0.attn", *np.zeros((2, 1, 4, 2, 8)))


def test_memory_grows_with_the_texts():
    """There is room for at most twice as many positions as there have been, and never for more than `size`."""
    cache, rng = Cache(1000, 2), np.random.default_rng(0)
    k, v = rng.standard_normal((2, 2, 1000, 3, 4), "f4")
    for start, stop in ((0, 1), (1, 2), (2, 100), (100, 101), (101, 400), (400, 999), (999, 1000)):
        for found, x in zip(cache.extend("a", *(Tensor.of(x[:, start:stop]) for x in (k, v))), (k, v), strict=True):
            np.testing.assert_array_equal(found.data, x[:, :stop])
        for array in cache.arrays["a"]:
            assert stop <= array.shape[1] <= min(1000, max(cache_module.LEAST, 2 * stop))
            assert all(array[0, :, g].flags.c_contiguous for g in range(3))
    with pytest.raises(ShapeError, match="1000 positions and 1 more, with room for 1000"):
        cache.extend("a", *(Tensor.of(x[:, :1]) for x in (k, v)))
    assert cache.length == 1000
