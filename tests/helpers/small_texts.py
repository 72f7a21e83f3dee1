"""Arbitrary Unicode texts, and invented words with frequencies by Zipf's law: the r-th has probability ∝ 1/r."""

import numpy as np
from hypothesis import strategies as st

# All of Unicode, including lone surrogates; characters that normalisation changes are more frequent.
SPECIAL = (
    "\r\n\t \v\f\x00\x1c\x1f\x7f\x85\xa0\u2000\u2028\u3000\ufeff\ud800\udfffe\u0301\u0327\u0308\u1100\u1161ſ\u212b"
)
ANY_TEXT = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from(SPECIAL)))

LETTERS = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))


def vocabulary(size, seed=0):
    """`size` different words of 3 to 9 letters."""
    rng = np.random.default_rng(seed)
    words = {}
    while len(words) < size:
        words["".join(rng.choice(LETTERS, rng.integers(3, 10)))] = None
    return list(words)


def zipf(vocabulary, count, rng, frequencies=1.0):
    """`count` random words. frequencies: factors of the words' probabilities"""
    p = frequencies / np.arange(1, len(vocabulary) + 1)
    return [vocabulary[i] for i in rng.choice(len(vocabulary), count, p=p / p.sum())]
