"""All blocks of a model in one call, for the next token of a few texts: the bits of its modules, or the modules."""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import configs, shaken, tiny

from tinygrad_lm import kernels
from tinygrad_lm.adapt.lora import lora
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.engine.observe import Observer, no_grad, observing
from tinygrad_lm.errors import ConfigError, ShapeError, TokenError
from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.generation.generate import generate_batch, next_logits
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.context import Context
from tinygrad_lm.unchanged import Unchanged, derived

pytest.importorskip("numba")
tiles = import_module("tinygrad_lm.kernels.bfloat16.tiles")
steps = import_module("tinygrad_lm.kernels.numba.steps")
together = import_module("tinygrad_lm.kernels.numba.together")
Plans = import_module("tinygrad_lm.kernels.bfloat16.next_token").Plans
pytestmark = pytest.mark.skipif(not tiles.DTYPES, reason="the processor has no AVX512-BF16")
SIZES = {"vocab_size": 50, "block_size": 12, "n_embd": 64}
LLAMA = {"norm": "rms", "gain": True, "position": "rotary", "activation": "silu", "gated": True, "bias": False}
OTHERS = {
    "llama": LLAMA | {"n_head": 4, "n_kv_head": 2, "n_hidden": 96, "rope_scaling": (8.0, 1.0, 4.0, 6), "tied": False},
    "qwen": LLAMA | {"n_head": 2, "n_kv_head": 1, "n_head_embd": 32, "n_hidden": 96, "qk_norm": True, "norm_eps": 1e-3},
    "layer norm at angles": {"position": "rotary", "qk_norm": True, "norm_eps": 1e-3, "gated": True},
}
TEXTS = [[1, 2, 3], [4] * 7, [5, 6, 7], [8, 9]]


def model_of(name, **changes):
    """A model in bfloat16 of a preset, or of one of OTHERS, with small sizes."""
    config = tiny(name, **SIZES | changes) if name in PRESETS else tiny("gpt2", **SIZES | OTHERS[name] | changes)
    half = GPT(config, dtype="bfloat16")
    half.flat.load(shaken(config, dtype=np.float32).flat.arrays())
    return half


@pytest.fixture
def calls(monkeypatch):
    """The tables of pieces that were computed; kernels are in use."""
    tables, perform = [], steps.perform
    monkeypatch.setattr(kernels.Replaceable, "enabled", True)
    monkeypatch.setattr(steps, "perform", lambda *arguments: tables.append(arguments[-1]) or perform(*arguments))
    return tables


def by_modules(patch):
    patch.setattr(next_logits, "implementations", {})


def drawn(model, texts=TEXTS, n=10):
    """What is drawn, with log-probabilities, in order."""
    return list(generate_batch(model, texts, n, logprobs=True, top=2))


@pytest.mark.parametrize("name", [*PRESETS, *OTHERS])
def test_texts_have_the_bits_of_the_modules(calls, name, monkeypatch):
    """Of one text and of several, whose caches have different lengths; the context is outgrown, too."""
    model = model_of(name)
    found = [drawn(model), drawn(model, TEXTS[:1]), drawn(model, TEXTS[1:] * 5)]
    assert len(calls) == 30
    by_modules(monkeypatch)
    assert found == [drawn(model), drawn(model, TEXTS[:1]), drawn(model, TEXTS[1:] * 5)]
    assert len(calls) == 30


def begun(model, texts):
    """A cache for each text, in which all but its last token is; these last ones, and the promise."""
    caches = [Cache(model.config.block_size) for _ in texts]
    with no_grad():
        for text, cache in zip(texts, caches, strict=True):
            model.features(np.array([text[:-1]]), Context(cache=(cache,)))
    return np.array([text[-1:] for text in texts]), Context(cache=tuple(caches)), Unchanged(model.flat.data)


@given(
    drawn=configs(),
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(2, 12), min_size=1, max_size=15),
)
@settings(max_examples=30)
def test_logits_and_caches_have_the_bits_of_the_modules(drawn, seed, lengths):
    """Of any configuration, its widths made multiples of 32: what is not covered is left to the modules."""
    config, _ = drawn
    sizes = {"n_embd": 32, "n_hidden": 64, "n_head": 2, "n_kv_head": config.kv_heads % 2 + 1, "n_head_embd": 32}
    names = "norm", "norm_eps", "gain", "position", "rope_base", "rope_scaling", "activation", "gated", "bias"
    names += "qk_norm", "tied", "softcap"
    model = model_of("gpt2", **{name: getattr(config, name) for name in names}, **sizes)
    rng, found = np.random.default_rng(seed), []
    texts = [rng.integers(0, 50, n).tolist() for n in lengths]
    with pytest.MonkeyPatch.context() as patch, no_grad():
        patch.setattr(kernels.Replaceable, "enabled", True)
        for _ in range(2):
            tokens, context, promise = begun(model, texts)
            with promise:
                logits = [next_logits(tokens, model, context).data]
                if max(lengths) < 12:
                    logits.append(next_logits(tokens, model, context).data)
            arrays = [array[:, :n] for n, cache in zip(lengths, context.cache, strict=True)
                      for pair in cache.arrays.values() for array in pair]  # fmt: skip
            found.append((logits, arrays, [cache.lengths for cache in context.cache]))
            by_modules(patch)
    for one, other in zip(*(logits + arrays for logits, arrays, _ in found), strict=True):
        assert one.shape == other.shape
        assert (one == other).all()
    assert found[0][2] == found[1][2]


class Other(GPT):
    """A model that may compute something else."""


def exchanged(change):
    """A function that makes a model, changes it and returns it."""

    def made():
        model = model_of("gpt2")
        return change(model) or model

    return made


ASIDE = {
    "adapters": exchanged(lambda model: lora(model, 2)),
    "another class": exchanged(lambda model: setattr(model, "__class__", Other)),
    "another forward": exchanged(lambda model: recomputed(model.h[1])),
    "gelu": lambda: model_of("gpt2", activation="gelu"),
    "narrow": lambda: model_of("gpt2", n_hidden=48),
    "float32": lambda: GPT(model_of("gpt2").config),
    "blocks of two kinds": exchanged(lambda model: setattr(model.h[1].attn, "rotary", {"base": 9.0, "scaling": ()})),
}


@pytest.mark.parametrize("name", ASIDE)
def test_other_models_are_left_to_their_modules(calls, name):
    assert len(drawn(ASIDE[name](), n=3)) == 12
    assert not calls


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_caches_that_grow_have_the_bits_of_the_modules(calls, name, monkeypatch):
    """Where there is no room for one more key, the modules append it, and what follows reads the larger arrays."""
    monkeypatch.setattr(import_module("tinygrad_lm.generation.cache"), "LEAST", 1)
    model = model_of(name, block_size=40)
    found = [drawn(model, n=30), drawn(model, TEXTS[:1], 30)]
    assert 40 < len(calls) < 60
    by_modules(monkeypatch)
    assert found == [drawn(model, n=30), drawn(model, TEXTS[:1], 30)]


def test_other_calls_are_left_to_the_modules(calls):
    """Where operations are watched or recorded, with documents or dropout, several tokens or many texts, no promise."""
    model = model_of("modern", dropout=0.5, block_size=20)
    tokens, context, promise = begun(model, TEXTS)
    others = {"document_starts": np.ones((4, 1), int)}, {"key": (0, 0, 0)}
    with no_grad():
        next_logits(tokens, model, context)
        with promise:
            with observing(Observer()):
                next_logits(tokens, model, context)
            for other in others:
                next_logits(tokens, model, Context(cache=context.cache, **other))
            assert next_logits(np.ones((4, 2), int), model, context).shape == (4, 2, 50)
            assert next_logits(tokens, model, Context(cache=(Cache(12, 4),))).shape == (4, 1, 50)
            assert next_logits(tokens, model, Context()).shape == (4, 1, 50)
            many, caches, _ = begun(model, [[1, 2]] * 16)
            assert next_logits(many, model, caches).shape == (16, 1, 50)
            assert not calls
            next_logits(tokens, model, context)
            assert len(calls) == 1
    with promise, pytest.raises(ConfigError, match="dropout: while gradients are recorded"):
        next_logits(tokens, model, context)
    assert len(calls) == 1


def test_what_does_not_fit_is_an_error_of_the_modules(calls):
    """So nothing is read or written beside an array."""
    model = model_of("gpt2")
    tokens, context, promise = begun(model, [[1] * 12])
    with no_grad(), promise:
        for wrong in (-1, 50):
            with pytest.raises(TokenError):
                next_logits(np.array([[wrong]]), model, context)
        with pytest.raises(ShapeError):
            next_logits(np.array([[1], [2]]), model, context)
        next_logits(tokens, model, context)
        with pytest.raises(ShapeError):
            next_logits(tokens, model, context)
        long, wide = Cache(20), Cache(12)
        model.features(np.ones((1, 12), int), Context(cache=(long,)))
        model_of("gpt2", n_embd=32).features(np.ones((1, 3), int), Context(cache=(wide,)))
        for cache in (long, wide):
            with pytest.raises(ValueError, match=r"GPT: tokens|could not broadcast"):
                next_logits(tokens, model, Context(cache=(cache,)))
    assert len(calls) == 1


def test_partners_change_no_bit(calls, monkeypatch):
    model = model_of("gpt2")
    found = drawn(model)
    assert any(parts > 1 for parts in calls[0][:, steps.PARTS])
    for cores in (1, 4):
        partners = together.Partners()
        monkeypatch.setattr(together, "cores", lambda cores=cores: cores)
        monkeypatch.setattr(steps, "partners", partners)
        assert drawn(model) == found
        assert len(partners.wanted) == cores - 1


def test_one_call_may_begin_before_another_has_ended(calls, monkeypatch):
    """As in two threads within one promise: each has its own memory."""
    model, perform, found = model_of("modern"), steps.perform, []
    with no_grad():
        for meanwhile in (False, True):
            (tokens, context, promise), (others, elsewhere, _) = (begun(model, [text]) for text in TEXTS[:2])
            first_tokens, before, _ = begun(model, TEXTS[2:3])

            def first(*arguments, tokens=others, context=elsewhere, meanwhile=meanwhile):
                monkeypatch.setattr(steps, "perform", perform)
                if meanwhile:
                    next_logits(tokens, model, context)
                return perform(*arguments)

            with promise:
                next_logits(first_tokens, model, before)
                monkeypatch.setattr(steps, "perform", first)
                found.append(next_logits(tokens, model, context).data)
    assert (found[0] == found[1]).all()


def test_what_it_found_is_not_written_over_by_the_next_call(calls):
    """Which may be another thread's, before these logits are read."""
    model = model_of("modern")
    tokens, context, promise = begun(model, TEXTS)
    with no_grad(), promise:
        logits = [derived(Plans, model.flat.data).logits(tokens[:, 0], model, context.cache) for _ in range(2)]
    assert (logits[0] != logits[1]).any()


def test_texts_of_two_models_take_turns(calls):
    """And two texts of one model in one promise, one of which is between two tokens when the other goes on."""
    one, two = model_of("gpt2"), model_of("modern")
    alone = [drawn(model, [text]) for model, text in ((one, [1, 2]), (two, [3, 4]), (one, [5, 6, 7]))]
    sources = [
        generate_batch(model, [text], 10, logprobs=True, top=2)
        for model, text in ((one, [1, 2]), (two, [3, 4]), (one, [5, 6, 7]))
    ]
    with Unchanged(one.flat.data):
        found = list(zip(*sources, strict=True))
    assert [list(text) for text in zip(*found, strict=True)] == alone
    assert len(calls) == 60


def test_texts_that_end_leave_the_others_as_they_are(calls, monkeypatch):
    """Their rows are dropped, so there are fewer texts in a call, and other caches."""
    model = model_of("modern")
    write = lambda: list(
        generate_batch(model, TEXTS[:3] * 3, 8, stop=lambda tokens: len(tokens) > tokens[0] % 7, logprobs=True)
    )
    found = write()
    assert len({len(table) for table in calls}) == 1
    assert len({table.ctypes.data for table in calls}) > 1
    by_modules(monkeypatch)
    assert write() == found


def test_weights_that_changed_between_two_texts_are_seen(calls):
    """Also one that only rounded numbers are kept of."""
    model = model_of("gpt2")
    first, weight = drawn(model), model.h[1].mlp.c_fc.weight.data
    weight *= 0.5
    second = drawn(model)
    weight *= 2
    assert drawn(model) == first != second
    assert len(calls) == 30
