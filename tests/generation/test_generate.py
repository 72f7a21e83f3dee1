"""Generation: the cached network is the network, and tokens are drawn as its probabilities say."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_gpt import configs, shaken, tiny

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, DivergedError, DtypeError, TokenError
from tinygrad_lm.generation.generate import generate, generate_batch, until
from tinygrad_lm.generation.sampling import Sampler
from tinygrad_lm.models.gpt import GPT

seeds = st.integers(0, 2**32 - 1)


def draw(sampler, logits, text, u):
    """The token that one text draws."""
    tokens, _ = sampler.draw(logits[None], [text], np.array([u]))
    return tokens[0]


@pytest.mark.slow
@settings(max_examples=30)
@given(drawn=configs(), seed=seeds, length=st.integers(1, 9), n=st.integers(0, 12))
def test_the_likeliest_text(drawn, seed, length, n):
    """Temperature 0, against a loop that computes everything again: also past the end of the context."""
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


@pytest.mark.slow
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
    min_p=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_tokens_are_drawn_as_the_probabilities_say(seed, V, temperature, top_k, top_p, min_p):
    """[0, 1) is dealt out to the tokens, likeliest first if filtered, as much as their probability: see both ends."""
    logits = 2 * np.random.default_rng(seed).standard_normal(V)
    weights = sorted(((math.exp(z / temperature), i) for i, z in enumerate(logits)), reverse=True)[: top_k or V]
    total, mass, kept = math.fsum(w for w, _ in weights), 0.0, []
    for w, i in weights:  # the smallest set of the likeliest that has probability top_p
        assume(abs(mass - top_p) > 1e-9)  # where rounding does not decide
        if mass < top_p:
            mass += w / total
            if w >= min_p * weights[0][0]:
                kept.append((w, i))
    total, u, sampler = math.fsum(w for w, _ in kept), 0.0, Sampler(temperature, top_k, top_p, min_p)
    if not 0 < top_k < V and top_p == 1 and min_p == 0:
        kept.sort(key=lambda pair: pair[1])  # unfiltered they are dealt out by id
    for w, i in kept:
        if w / total > 1e-11:
            assert draw(sampler, logits, [], u + 1e-12) == i
            assert draw(sampler, logits, [], u + w / total - 1e-12) == i
        u += w / total


@pytest.mark.slow
def test_the_random_numbers_are_even():
    """A head of zeros finds all tokens equally likely; chi-square of 3,000 draws and of which follows which."""
    model, V = GPT(tiny("modern", n_layer=1)), 7
    text = np.array(list(generate(model, [0], 3000, seed=5)))
    for count in (np.bincount(text, minlength=V), np.bincount(V * text[:-1] + text[1:], minlength=V * V)):
        expected, freedom = count.mean(), count.size - 1
        assert ((count - expected) ** 2 / expected).sum() < freedom + 5 * math.sqrt(2 * freedom)


def test_extreme_logits():
    """Far beyond what exp can take, and numbers u at the very edges."""
    assert draw(Sampler(0.01), np.array([1e4, 0.0, -1e4], np.float32), [], 0.999) == 0
    assert draw(Sampler(), np.array([-np.inf, 1.0, -np.inf]), [], 0.5) == 1
    for u, token in ((0.0, 0), (np.nextafter(1.0, 0.0), 2)):
        assert draw(Sampler(), np.zeros(3), [], u) == token
    assert draw(Sampler(top_k=1), np.array([0.0, 1.0, 1.0]), [], 0.9) == 1  # the first of equals


# ---- mistakes


@pytest.mark.parametrize(
    "options",
    [{name: value} for name, values in {
        "temperature": (-0.1, math.nan), "top_k": (-1,), "top_p": (0.0, 1.1, math.nan), "min_p": (-0.1, 1.1, math.nan),
        "repetition_penalty": (0.0, math.inf, math.nan), "seed": (-1, 2**64), "n": (-1,),
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


@pytest.mark.slow
def test_what_pads_the_vocabulary_is_not_drawn():
    model = GPT(tiny("modern"))  # all tokens equally likely
    assert set(generate(model, [0], 200)) == set(range(7))
    assert set(generate(model, [0], 200, vocab_size=5)) == set(range(5))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 2}, {"repetition_penalty": 2.0}], ids=str)
def test_logits_that_are_no_numbers_draw_nothing(wrong, options):
    with pytest.raises(DivergedError, match="weights may be damaged"):
        draw(Sampler(**options), np.array([0.0, wrong, 1.0]), [0], 0.5)


def test_repetition_is_punished():
    """Tokens of the text, the prompt's too: positive logits are divided, negative ones multiplied."""
    sampler = Sampler(temperature=0, repetition_penalty=2.0)
    assert draw(sampler, np.array([3.0, 2.0, 1.0]), [0, 0], 0.5) == 1
    assert draw(sampler, np.array([3.0, 2.0, 1.4]), [0, 1], 0.5) == 0
    assert draw(sampler, np.array([-1.0, -1.5, -3.0]), [0], 0.5) == 1
    logits = np.array([3.0, 2.0, 1.0])
    draw(sampler, logits, [0], 0.5)
    assert logits.tolist() == [3.0, 2.0, 1.0]


# ---- where a text ends


@given(st.lists(st.text("abc", max_size=4), max_size=6), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_a_text_ends_before_the_first_stop(pieces, stops):
    """However it is cut into pieces: as a reader does who looks at the end of every prefix."""
    text = "".join(pieces)
    prefixes = [text[:i] for i in range(len(text) + 1)]
    cuts = [
        len(p) - len(max((s for s in stops if p.endswith(s)), key=len)) for p in prefixes if p.endswith(tuple(stops))
    ]
    assert "".join(until(pieces, stops)) == text[: cuts[0] if cuts else None]


def test_what_is_sure_comes_at_once_and_no_more_is_asked_for():
    asked, pieces = [], ["abc", "d-", "-", "x", "--", "-", "never"]
    stream = until((asked.append(piece) or piece for piece in pieces), ["---"])
    assert next(stream) == "abc"
    assert asked == ["abc"]
    assert list(stream) == ["d", "--x"]
    assert asked[-1] == "-"


def test_mistakes_are_told_before_the_first_token():
    with pytest.raises(ConfigError, match="top_k"):
        generate_batch(GPT(tiny("gpt2")), [[0]], 1, top_k=-1)


@pytest.mark.parametrize(
    "prompt", ["12", [1.7, 2.2], np.ones(2, "f4"), np.array([[1, 2]]), [[1], [2]], 3, None, [None]], ids=repr
)
def test_a_prompt_is_a_list_of_ids(prompt):
    """Of "12" the characters would be ids, and 1.7 would be cut to 1."""
    with pytest.raises(DtypeError, match=r"a prompt must be a list of token ids.*\n.*tokenizer\.encode"):
        generate(GPT(tiny("gpt2")), prompt, 1)


@pytest.mark.parametrize("make", [tuple, np.array, np.uint16, lambda ids: Tensor(np.array(ids)), bytes, iter])
def test_ids_may_come_in_any_container(make):
    model = shaken(tiny("gpt2"))
    assert list(generate(model, make([1, 2]), 5)) == list(generate(model, [1, 2], 5))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *((name, value) for name in ("n", "seed", "top", "top_k") for value in (-1, 2.0, 3.5, "3", None)),
        ("seed", 2**64),
        *(("vocab_size", value) for value in (0, -1, 2.0, "3")),
        *((name, value) for name in ("temperature", "top_p", "min_p", "repetition_penalty") for value in ("1", None)),
    ],
)
def test_settings_of_another_kind_are_refused(setting, value):
    """Before the first token, by name, with what was found."""
    with pytest.raises(ConfigError, match=rf"{setting} must be .*, found {value!r}"):
        generate_batch(GPT(tiny("gpt2")), [[0]], **{"n": 1} | {setting: value})


def test_a_prompt_may_have_ids_that_are_never_drawn():
    """A penalty has no logits of theirs to change."""
    model = shaken(tiny("gpt2"))
    text = list(generate(model, [1, 6], 20, vocab_size=5, repetition_penalty=3.0))
    assert max(text) < 5
    assert text != list(generate(model, [1, 6], 20, vocab_size=5))
