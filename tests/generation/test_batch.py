"""Several texts at once: each is written as if alone, whoever is written beside it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import configs, shaken, tiny

from tinygrad_lm.backend import random
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.generation.generate import generate, generate_batch
from tinygrad_lm.generation.sampling import Sampler, uniform
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.testing.checks import agree

seeds = st.integers(0, 2**32 - 1)


def written(model, prompts, n, **options):
    """What is drawn for each prompt, a list of Drawn."""
    texts = [[] for _ in prompts]
    for drawn in generate_batch(model, prompts, n, **options):
        texts[drawn.row].append(drawn)
    return texts


def tokens_of(texts):
    return [[drawn.token for drawn in text] for text in texts]


@pytest.mark.slow
@settings(max_examples=30)
@given(drawn=configs(), seed=seeds, data=st.data())
def test_each_text_of_a_batch_is_written_as_if_alone(drawn, seed, data):
    """Prompts of different lengths and equal ones, past the end of the context."""
    config, _ = drawn
    model, ids = shaken(config, seed), st.integers(0, config.vocab_size - 1)
    prompts = data.draw(st.lists(st.lists(ids, min_size=1, max_size=9), min_size=1, max_size=4), label="prompts")
    texts = [[] for _ in prompts]
    for row, token, *_ in generate_batch(model, prompts + prompts[:1], 7, temperature=0):
        if row < len(texts):
            texts[row].append(token)
    assert texts == [list(generate(model, prompt, 7, temperature=0)) for prompt in prompts]


def test_equal_prompts_get_different_samples():
    model = shaken(tiny("modern"))
    texts = [[], [], []]
    for row, token, *_ in generate_batch(model, [[1, 2]] * 3, 20, seed=4):
        texts[row].append(token)
    assert len(set(map(tuple, texts))) == 3
    assert texts[0] == list(generate(model, [1, 2], 20, seed=4))


def test_texts_end_one_by_one():
    """Each where its stop says so, while the others go on as they would have."""
    model, prompts = shaken(tiny("gpt2")), [[0], [1], [2, 3], [4], [5], [6]]
    whole = [[] for _ in prompts]
    for row, token, *_ in generate_batch(model, prompts, 30, seed=1):
        whole[row].append(token)
    cut = [[] for _ in prompts]
    for row, token, *_ in generate_batch(model, prompts, 30, seed=1, stop=lambda tokens: tokens[-1] == 5):
        cut[row].append(token)
    assert cut == [text[: text.index(5) + 1] if 5 in text else text for text in whole]
    assert len({len(text) for text in cut}) > 1
    asked = []
    list(generate_batch(model, [[0, 1, 2]], 3, seed=1, stop=lambda tokens: asked.append(list(tokens))))
    assert list(map(len, asked)) == [1, 2, 3]  # of the tokens that were drawn, without the prompt


@pytest.mark.slow
@settings(max_examples=30)
@given(drawn=configs(), seed=seeds, data=st.data())
def test_what_a_text_draws_depends_on_its_own_row(drawn, seed, data):
    """Any of the prompts in any order with their rows draw what they draw among all, up to rounding."""
    config, _ = drawn
    model, ids = shaken(config, seed), st.integers(0, config.vocab_size - 1)
    prompts = data.draw(st.lists(st.lists(ids, min_size=1, max_size=7), min_size=1, max_size=5), label="prompts")
    numbers = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))
    rows = data.draw(st.lists(numbers, min_size=len(prompts), max_size=len(prompts)), label="rows")
    some = data.draw(st.lists(st.sampled_from(range(len(prompts))), min_size=1, max_size=5), label="some")
    options = {"seed": seed, "stop": lambda tokens: tokens[-1] == 0, "temperature": 1.5}
    among_all = tokens_of(written(model, prompts, 9, rows=rows, **options))
    alone = written(model, [prompts[i] for i in some], 9, rows=[rows[i] for i in some], **options)
    assert tokens_of(alone) == [among_all[i] for i in some]
    in_order = tokens_of(written(model, prompts, 3, seed=seed))
    assert in_order == tokens_of(written(model, prompts, 3, seed=seed, rows=range(len(prompts))))


@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 2**40), rows=st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_the_numbers_are_those_of_a_generator_for_each_row(seed, step, rows):
    assert uniform(seed, step, rows).tolist() == [random(seed, "sample", step, row).random() for row in rows]


# ---- what the model computes


@pytest.fixture
def shapes(monkeypatch):
    """The shapes of the tokens that models read, in order."""
    seen, features = [], GPT.features
    monkeypatch.setattr(
        GPT, "features", lambda self, tokens, context: seen.append(tokens.shape) or features(self, tokens, context)
    )
    return seen


def test_equal_prompts_are_read_once_and_those_of_one_length_together(shapes):
    model = shaken(tiny("modern"))
    written(model, [[1, 2, 3], [4, 5], [1, 2, 3], [6, 5, 4], [4, 5]], 1)
    assert shapes == [(2, 2), (1, 1), (5, 1)]


def test_long_prompts_are_read_in_pieces(shapes, monkeypatch):
    """And what is written after them is the same."""
    model, prompts = shaken(tiny("gpt2")), [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]
    expected = tokens_of(written(model, prompts, 4))
    monkeypatch.setitem(generate_batch.__globals__, "PIECE", 6)
    shapes.clear()
    assert tokens_of(written(model, prompts, 4)) == expected
    assert shapes[:3] == [(2, 3), (2, 1), (2, 1)]


def test_texts_that_have_ended_are_not_computed_for_long(shapes):
    """At no step are more than a third of the rows those of ended texts."""
    model, prompts = shaken(tiny("modern", block_size=64)), [[1, 2]] * 32
    texts = written(model, prompts, 60, seed=3, stop=lambda tokens: tokens[-1] == 0)
    going = [sum(len(text) > i for text in texts) for i in range(60)]
    computed = [rows for rows, T in shapes if T == 1][1:]  # after the prompt
    assert going[0] == computed[0] == 32
    assert len(computed) == max(map(len, texts))
    assert all(n <= rows <= 4 / 3 * n for n, rows in zip(going[: len(computed)], computed, strict=True))
    assert len(set(computed)) > 4


# ---- log-probabilities


@pytest.mark.slow
@settings(max_examples=20)
@given(drawn=configs(), seed=seeds, temperature=st.sampled_from([0.5, 2.0]))
def test_log_probabilities_are_the_models_and_the_samplers(drawn, seed, temperature):
    """Of the token under the model alone, whatever the sampler makes of it; and as it was drawn."""
    config, _ = drawn
    model = shaken(config, seed)
    n, V = min(3, config.block_size), max(1, config.vocab_size - 1)
    options = {"temperature": temperature, "top_k": 2, "vocab_size": V}
    (found,) = written(model, [[0]], n, seed=1, logprobs=True, top=2, **options)
    text = [0, *(drawn.token for drawn in found)]
    z = model(np.array([text[:n]])).data[0]
    expected = [row[token] - math.log(np.exp(row).sum()) for row, token in zip(z, text[1:], strict=True)]
    agree(np.array([drawn.logprob for drawn in found]), np.array(expected), "log P")
    for drawn, row in zip(found, z, strict=True):
        likeliest = np.argsort(-row, kind="stable")[:2]
        logprobs = row[likeliest] - math.log(np.exp(row).sum())
        agree(np.array([logprob for _, logprob in drawn.likeliest]), logprobs, "log P of the likeliest")
    expected = [
        row[token] / temperature - math.log(np.exp(np.sort(row[:V])[-2:] / temperature).sum())
        for row, token in zip(z, text[1:], strict=True)
    ]
    agree(np.array([drawn.sampling_logprob for drawn in found]), np.array(expected), "log P of the draw")
    assert next(generate_batch(model, [[0]], 1))[2:] == (None, None, ())


@given(
    seed=seeds,
    V=st.integers(1, 12),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([0.4, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    penalty=st.sampled_from([1.0, 1.3]),
)
def test_the_candidates_share_all_probability(seed, V, temperature, top_k, top_p, min_p, penalty):
    """Go through [0, 1) in steps of what each token is said to have: every one comes once, and the end is 1."""
    logits = np.random.default_rng(seed).uniform(-1.5, 1.5, V)  # no token is so improbable that a step passes over it
    sampler, u, tokens = Sampler(temperature, top_k, top_p, min_p, penalty), 0.0, []
    while u < 1 - 1e-11:
        found, logprobs = sampler.draw(logits[None], [[0]], np.array([u + 1e-12]))
        tokens.append(int(found[0]))
        u += math.exp(logprobs[0])
    assert abs(u - 1) < 1e-12
    assert len(set(tokens)) == len(tokens)


@given(seed=seeds, B=st.integers(1, 4), V=st.integers(1, 12), dtype=st.sampled_from([np.float32, np.float64]))
def test_an_unfiltered_draw_has_the_models_log_probability(seed, B, V, dtype):
    rng = np.random.default_rng(seed)
    logits, u = (5 * rng.standard_normal((B, V))).astype(dtype), rng.random(B)
    tokens, found = Sampler().draw(logits, [[0]] * B, u)
    z = logits.astype(np.float64)
    expected = z[np.arange(B), tokens] - np.log(np.exp(z).sum(1))
    assert np.abs(found - expected).max() < 1e-12


def test_the_likeliest_token_is_certain():
    model = shaken(tiny("modern"))
    (found,) = written(model, [[0]], 5, temperature=0, logprobs=True)
    assert [drawn.sampling_logprob for drawn in found] == [0.0] * 5
    assert all(drawn.logprob < 0 for drawn in found)


# ---- mistakes


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [0, -1], [0, 2**64]], ids=str)
def test_wrong_rows(rows):
    with pytest.raises(ConfigError, match=r"rows must be a whole number below 2⁶⁴ for each of 2, found \["):
        generate_batch(GPT(tiny("gpt2")), [[0], [1]], 1, rows=rows)


def test_no_prompts_write_nothing():
    assert list(generate_batch(GPT(tiny("gpt2")), [], 3)) == []
