"""The Markov chain: its stationary distribution and rate, against chains computed by hand and with loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm.data.synthetic.markov import Chain, stationary
from tinygrad_lm.errors import ConfigError, TokenError

chains = st.builds(
    Chain,
    st.integers(1, 3),
    st.sampled_from(["ab", "abc", "βγδ "]),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.integers(0, 99),
)


@settings(max_examples=30)
@given(chains)
def test_one_more_character_changes_no_probability_of_a_context(chain):
    """The matrix from context to context, written out; and the rate by single terms."""
    contexts = ["".join(c) for c in itertools.product(chain.alphabet, repeat=chain.order)]
    M = np.zeros((len(contexts), len(contexts)))
    for (i, context), (j, character) in itertools.product(enumerate(contexts), enumerate(chain.alphabet)):
        M[i, contexts.index((context + character)[1:])] += chain.P[i, j]
    np.testing.assert_allclose(chain.start @ M, chain.start, rtol=0, atol=1e-14)
    assert chain.start.min() >= 0
    assert chain.start.sum() == pytest.approx(1, rel=1e-12)
    rate = -math.fsum(chain.start[i] * p * math.log(p) for (i, _), p in np.ndenumerate(chain.P) if p)
    assert chain.rate == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.25), (0.01, 0.3)])
def test_two_states_by_hand(a, b):
    np.testing.assert_allclose(stationary(np.array([[1 - a, a], [b, 1 - b]])), [b / (a + b), a / (a + b)], rtol=1e-12)


@settings(max_examples=30)
@given(chains)
def test_nats_are_the_sum_over_single_steps(chain):
    contexts = ["".join(c) for c in itertools.product(chain.alphabet, repeat=chain.order)]
    text = chain.write(np.random.default_rng(0), 9)
    assert len(text) == chain.order + 9
    expected = -math.log(chain.start[contexts.index(text[: chain.order])])
    for t in range(chain.order, len(text)):
        row = chain.P[contexts.index(text[t - chain.order : t])]
        expected -= math.log(row[chain.alphabet.index(text[t])])
    assert chain.nats(text) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=20)
@given(chains)
def test_texts_of_a_length_sum_to_one_and_any_place_is_as_the_first(chain):
    texts = ["".join(c) for c in itertools.product(chain.alphabet, repeat=chain.order + 2)]
    p = {}
    for text in texts:
        try:
            p[text] = math.exp(-chain.nats(text))
        except TokenError:
            p[text] = 0.0
    assert math.fsum(p.values()) == pytest.approx(1, rel=1e-12)
    for context in {text[2:] for text in texts}:
        last = math.fsum(q for text, q in p.items() if text.endswith(context))
        first = math.fsum(q for text, q in p.items() if text.startswith(context))
        assert last == pytest.approx(first, abs=1e-12)


def test_what_it_writes_has_the_probabilities_of_the_chain():
    chain = Chain(1, "abc", 1.0, 4)
    text = chain.write(np.random.default_rng(0), 60_000)
    for a, b in itertools.product("abc", repeat=2):
        i, j = "abc".index(a), "abc".index(b)
        n, expected = sum(pair == (a, b) for pair in itertools.pairwise(text)), 60_000 * chain.start[i] * chain.P[i, j]
        assert abs(n - expected) < 6 * math.sqrt(expected)
    firsts = [chain.write(np.random.default_rng(i), 0) for i in range(3000)]
    for i, character in enumerate("abc"):
        assert abs(firsts.count(character) - 3000 * chain.start[i]) < 5 * math.sqrt(3000 * chain.start[i])


def test_a_small_concentration_makes_it_easier_to_guess():
    rates = [np.mean([Chain(1, "abcdefgh", c, seed).rate for seed in range(5)]) for c in (0.05, 0.3, 1.0, 100.0)]
    assert rates == sorted(rates)
    assert math.log(8) - 0.01 < rates[-1] < math.log(8)
    assert rates[0] < 0.5


def test_a_text_that_needs_what_never_happens_is_refused():
    chain = Chain(1, "ab", 1.0, 0)
    chain.P[0, 1] = 0.0
    with pytest.raises(TokenError, match="cannot write 'aab'"):
        chain.nats("aab")


def test_a_chain_that_falls_apart_is_refused():
    """With two absorbing contexts, the stationary distribution is not unique."""
    with pytest.raises(ConfigError, match="is not irreducible; choose a larger concentration"):
        stationary(np.eye(2))


def test_a_chain_that_hardly_hangs_together_is_refused_or_right():
    for seed in range(100):
        try:
            start = Chain(2, "ab", 0.05, seed).start
        except ConfigError:
            continue
        assert start.min() >= 0
        assert start.sum() == pytest.approx(1, rel=1e-12)
