"""Evaluation, against loops over single tokens."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import shaken, tiny

from tinygrad_lm import no_grad
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.threads import workers
from tinygrad_lm.train.evaluate import baselines, evaluate


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
