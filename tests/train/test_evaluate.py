"""Evaluation, against loops over single tokens."""

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import shaken, tiny

from tinygrad_lm import no_grad, ops
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.data.synthetic.kinds import SEPARATOR, Copy
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import Validation, baselines, evaluate, part_of
from tinygrad_lm.train.trainer import Trainer


@given(n=st.integers(2, 40), batch_size=st.integers(1, 4), threads=st.integers(1, 3), seed=st.integers(0, 99))
def test_evaluation_is_the_mean_over_every_token(n, batch_size, threads, seed):
    model = shaken(tiny("gpt2", dropout=0.5), seed)
    tokens = np.random.default_rng(seed).integers(0, 7, n)
    total = 0.0
    for i in range(1, n):  # each target on its own, with the part of its window that comes before
        begin = (i - 1) // 5 * 5
        with no_grad():
            total += cross_entropy(model(tokens[None, begin:i])[:, -1], tokens[i : i + 1]).item()
    with workers(threads):
        found = evaluate(model, tokens, batch_size)
    agree(found, total / (n - 1), "mean")
    assert found == evaluate(model, tokens, batch_size)
    assert type(found) is float


@given(n=st.integers(2, 40), batch_size=st.integers(1, 4), seed=st.integers(0, 99))
def test_evaluation_inside_documents_gives_each_target_its_own_document_alone(n, batch_size, seed):
    model = shaken(tiny("modern"), seed)
    tokens = np.random.default_rng(seed).integers(0, 3, n)
    total = 0.0
    for i in range(1, n):
        begin = (i - 1) // 5 * 5
        begin = max([begin, *(s for s in range(begin, i) if tokens[s] == 2)])
        with no_grad():
            total += cross_entropy(model(tokens[None, begin:i])[:, -1], tokens[i : i + 1]).item()
    agree(evaluate(model, tokens, batch_size, document_token=2), total / (n - 1), "mean")


TEXTS = {"a": (Fraction(2, 3), 100), "b": (Fraction(1, 3), 38)}  # weight and length; windows of 5


def validation_with(curve_tokens, seed=0):
    texts = {name: (w, np.random.default_rng(n).integers(0, 7, n)) for name, (w, n) in TEXTS.items()}
    return Validation(texts, Batches(np.arange(9), 2, 5), TrainConfig(1, 2, curve_tokens=curve_tokens, seed=seed))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("curve_tokens", [1, 20, 37, 60, 99])
def test_evaluations_measure_a_part_of_each_text_and_the_last_one_all(curve_tokens, seed):
    """Windows drawn without replacement; their mean, by weight, is what each window alone gives."""
    model, validation = shaken(tiny("gpt2"), seed), validation_with(curve_tokens, seed)
    expected = {}
    for name, (_, tokens) in validation.texts.items():
        blocks, count = validation.blocks[name], (len(tokens) - 1) // 5
        if curve_tokens // 5 >= count:
            assert blocks is None
            expected[name] = evaluate(model, tokens, 2)
            continue
        assert len(set(blocks)) == len(blocks) == max(1, curve_tokens // 5)
        assert 0 <= min(blocks) <= max(blocks) < count
        expected[name] = np.mean([evaluate(model, tokens[5 * i : 5 * i + 6], 2) for i in blocks])
    loss, losses = validation(model)
    for name in expected:
        agree(losses[name], expected[name], name)
    agree(loss, 2 / 3 * losses["a"] + 1 / 3 * losses["b"], "mean")
    assert validation(model) == (loss, losses) == validation_with(curve_tokens, seed)(model)
    whole = {name: evaluate(model, tokens, 2) for name, (_, tokens) in validation.texts.items()}
    assert validation.whole(model)[1] == whole


def test_each_window_is_as_likely_as_any_other_to_be_in_the_part():
    """No prefix: over 400 seeds each of 19 windows comes 105 times, with a standard deviation of 9."""
    parts = [part_of(100, 5, TrainConfig(1, 1, curve_tokens=25, seed=seed), "text") for seed in range(400)]
    counts = np.bincount(np.concatenate(parts), minlength=19)
    assert len(counts) == 19
    assert abs(counts - 400 * 5 / 19).max() < 40


def test_what_is_measured_is_said(capsys):
    validation_with(20)
    assert capsys.readouterr().out == "curve   evaluations measure 40 of 136 validation tokens, the last one all\n"
    validation_with(99)
    assert capsys.readouterr().out == ""


@given(data=st.data(), V=st.integers(1, 6), n=st.integers(2, 40), m=st.integers(2, 20))
def test_baselines_count(data, V, n, m):
    draw = lambda size: data.draw(st.lists(st.integers(0, V - 1), min_size=size, max_size=size))
    train, validation = draw(n), draw(m)
    single, pairs, before = Counter(train), Counter(pairwise(train)), Counter(train[:-1])
    p = lambda b: (single[b] + 1) / (n + V)
    unigram = [-math.log(p(b)) for b in validation[1:]]
    bigram = [-math.log((pairs[a, b] + p(b)) / (before[a] + 1)) for a, b in pairwise(validation)]
    found = baselines(np.array(train, "uint16"), np.array(validation, "uint16"), V)
    expected = {"uniform": math.log(V), "unigram": math.fsum(unigram) / (m - 1), "bigram": math.fsum(bigram) / (m - 1)}
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


# ---- documents of known probability: a model comes near the floor, and nothing goes below


SOURCE = Copy("abcdefgh", length=6)
EOT, CHARACTERS = 0, {c: i for i, c in enumerate(SOURCE.alphabet + SEPARATOR, start=1)}
T = 48


class Packed(Batches):
    document_token = EOT


def row(text):
    return [EOT, *(CHARACTERS[c] for c in text)]


@pytest.mark.slow
def test_a_small_model_learns_to_copy_and_does_not_fall_below_the_floor():
    documents = list(SOURCE.documents(300, seed=1))
    tokens, held_out = (np.concatenate([row(text) for text in texts])
                        for texts in (SOURCE.documents(10_000, seed=0), documents))  # fmt: skip
    floor = sum(map(SOURCE.nats, documents)) / len(held_out)
    config = TrainConfig(**RECIPES["modern"] | {"steps": 600, "batch_size": 16, "lr": 0.005, "muon_lr": 0.03})
    shape = {"vocab_size": 1 + len(CHARACTERS), "block_size": T, "n_layer": 2, "n_head": 2, "n_embd": 32}
    model = GPT(replace(PRESETS["modern"], **shape))
    trainer = Trainer(model, Packed(tokens, config.batch_size, T), config)
    with workers(1):
        for step in range(config.steps):
            trainer.step(step)
    assert floor < evaluate(model, held_out, 8, EOT) < 1.35 * floor  # windows begin within documents

    whole = [text for text in documents if len(text) < T]
    first, second, surplus = [], [], []
    for text in whole:
        x = np.array([[*row(text), EOT]])
        with no_grad():
            nats = -ops.log_softmax(model(x[:, :-1])).data[0, np.arange(len(text) + 1), x[0, 1:]]
        half = text.index(SEPARATOR) + 1
        first.append(nats[:half].sum())
        second += nats[half:].tolist()
        surplus.append(nats.sum() - SOURCE.nats(text))
    least = np.mean([SOURCE.nats(text) for text in whole])
    assert np.mean(second) < 0.1  # to guess costs 2.1
    assert 0.97 * least < np.mean(first) < 1.05 * least  # all that cannot be known is in the first half
    assert np.mean(surplus) > -4 * np.std(surplus) / len(surplus) ** 0.5
    assert len(whole) > 290
