"""Generation: the cached network is the network, and tokens are drawn as its probabilities say."""

import math

import numpy as np
import pytest
from checks import agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_gpt import configs, random_tokens, shaken, tiny

from tinygrad_lm.errors import ConfigError, ShapeError, TokenError
from tinygrad_lm.models.generate import draw, fresh, generate
from tinygrad_lm.models.gpt import GPT

seeds = st.integers(0, 2**32 - 1)


@given(drawn=configs(), seed=seeds, data=st.data())
def test_with_and_without_a_past(drawn, seed, data):
    """However a text is cut into pieces, the logits of its positions are those of the whole."""
    config, T = drawn
    model, past = shaken(config, seed), None
    tokens, _ = random_tokens(config, 2, T, seed)
    cuts = data.draw(st.sets(st.integers(1, T)), label="cuts")
    past = fresh(model)
    pieces = [model(piece, past=past).data for piece in np.split(tokens, sorted(cuts - {T}), axis=1)]
    agree(np.concatenate(pieces, 1), model(tokens).data, "logits")
    assert all(layer.length == T for layer in past)


def test_a_past_cannot_outgrow_the_context():
    model = shaken(tiny("gpt2"))
    past = fresh(model)
    model(np.zeros((1, 3), int), past=past)
    with pytest.raises(ShapeError, match=r"tokens of shape \(1, 3\) after 3 others"):
        model(np.zeros((1, 3), int), past=past)


@settings(max_examples=30)
@given(drawn=configs(), seed=seeds, length=st.integers(1, 9), n=st.integers(0, 12))
def test_the_likeliest_text(drawn, seed, length, n):
    """Temperature 0, against a loop that computes everything anew: also past the end of the context."""
    config, _ = drawn
    model = shaken(config, seed)
    text = np.random.default_rng(seed).integers(0, config.vocab_size, length).tolist()
    found = list(generate(model, text, n, temperature=0))
    assert found == list(generate(model, text, n, top_k=1))
    seen, expected = text[-config.block_size :], []
    for _ in range(n):
        if len(seen) > config.block_size:
            seen = (text + expected)[-(config.block_size // 2 or 1) :]
        expected.append(int(model(np.array([seen])).data[0, -1].argmax()))
        seen = [*seen, expected[-1]]
    assert found == expected


def test_the_same_seed_writes_the_same_text():
    model = shaken(tiny("modern"))
    text = lambda seed, **options: list(generate(model, [1, 2], 40, seed=seed, **options))
    assert text(1) == text(1)
    assert text(1) != text(2)
    assert text(1, temperature=3.0) != text(1)
    assert text(1)[:10] == list(generate(model, [1, 2], 10, seed=1))
    assert all(type(token) is int and 0 <= token < 7 for token in text(1))


# ---- which token is drawn


@given(
    seed=seeds,
    V=st.integers(1, 12),
    temperature=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    top_k=st.integers(0, 14),
    top_p=st.floats(0.01, 1.0),
)
def test_tokens_are_drawn_as_the_probabilities_say(seed, V, temperature, top_k, top_p):
    """[0, 1) is dealt out to the tokens, likeliest first, each as much as its probability: look at both its ends."""
    logits = 2 * np.random.default_rng(seed).standard_normal(V)
    weights = sorted(((math.exp(z / temperature), i) for i, z in enumerate(logits)), reverse=True)[: top_k or V]
    total, mass, kept = math.fsum(w for w, _ in weights), 0.0, []
    for w, i in weights:  # the smallest set of the likeliest that has probability top_p
        assume(abs(mass - top_p) > 1e-9)  # where rounding does not decide
        if mass < top_p:
            kept.append((w, i))
            mass += w / total
    total, u = math.fsum(w for w, _ in kept), 0.0
    for w, i in kept:
        if w / total > 1e-11:
            assert draw(logits, temperature, top_k, top_p, u + 1e-12) == i
            assert draw(logits, temperature, top_k, top_p, u + w / total - 1e-12) == i
        u += w / total


def test_the_random_numbers_are_even():
    """A head of zeros finds all tokens equally likely; chi-square of 3,000 draws and of which follows which."""
    model, V = GPT(tiny("modern", n_layer=1)), 7
    text = np.array(list(generate(model, [0], 3000, seed=5)))
    for count in (np.bincount(text, minlength=V), np.bincount(V * text[:-1] + text[1:], minlength=V * V)):
        expected, freedom = count.mean(), count.size - 1
        assert ((count - expected) ** 2 / expected).sum() < freedom + 5 * math.sqrt(2 * freedom)


def test_extreme_logits():
    """Far beyond what exp can take, and numbers u at the very edges."""
    assert draw(np.array([1e4, 0.0, -1e4], np.float32), 0.01, 0, 1.0, 0.999) == 0
    assert draw(np.array([-np.inf, 1.0, -np.inf]), 1.0, 0, 1.0, 0.5) == 1
    for u, token in ((0.0, 0), (np.nextafter(1.0, 0.0), 2)):
        assert draw(np.zeros(3), 1.0, 0, 1.0, u) == token
    assert draw(np.array([0.0, 1.0, 1.0]), 1.0, 1, 1.0, 0.9) == 1  # the first of equals


# ---- mistakes


@pytest.mark.parametrize(
    "options",
    [{name: value} for name, values in {
        "temperature": (-0.1, math.nan), "top_k": (-1,), "top_p": (0.0, 1.1, math.nan), "seed": (-1, 2**64), "n": (-1,),
    }.items() for value in values],
    ids=str,
)  # fmt: skip
def test_wrong_options(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.*{next(iter(options.values()))}"):
        next(generate(GPT(tiny("gpt2")), [0], **{"n": 1} | options))


def test_wrong_prompts():
    with pytest.raises(ConfigError, match="prompt is empty"):
        next(generate(GPT(tiny("gpt2")), [], 1))
    with pytest.raises(TokenError, match="token id 7 is outside"):
        next(generate(GPT(tiny("gpt2")), [7], 1))
