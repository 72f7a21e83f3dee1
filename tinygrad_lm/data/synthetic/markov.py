"""A random language: a Markov chain over characters with a known entropy rate."""

from bisect import bisect

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.errors import ConfigError, TokenError

# V characters in the alphabet, k the order; a context is a number of k digits in base V, the latest character last.
TOLERANCE = 1e-12  # of rounding, below 0


class Chain:
    """A chain in which each character depends on the k before it; `seed` chooses the probabilities.

    P      (Vᵏ, V): the probability of each character after each context, rows drawn from a Dirichlet distribution:
           the smaller its concentration, the more each context prefers a few characters
    start  (Vᵏ,): the stationary probability of each context, also at the beginning
    rate   nats per character: Σ start H(P), H the entropy of each row (Cover & Thomas, Elements of Information Theory,
           theorem 4.2.4)
    """

    def __init__(self, order, alphabet, concentration, seed):
        self.order, self.alphabet = order, alphabet
        self.place = {character: i for i, character in enumerate(alphabet)}
        V = len(alphabet)
        self.P = random(seed, "markov").dirichlet(np.full(V, concentration), V**order)
        self.start = stationary(self.P)
        self.rate = float(self.start @ entropies(self.P))
        self.cumulative = [cumulative(row) for row in self.P]
        self.cumulative_start = cumulative(self.start)

    def write(self, rng, n):
        """A random text of k + n characters."""
        first, *dice = rng.random(1 + n).tolist()
        V, contexts = len(self.alphabet), len(self.start)
        context = bisect(self.cumulative_start, first)
        text = [self.alphabet[context // V**i % V] for i in reversed(range(self.order))]
        for u in dice:
            i = bisect(self.cumulative[context], u)
            text.append(self.alphabet[i])
            context = (context * V + i) % contexts
        return "".join(text)

    def nats(self, text):
        """−ln of the probability of a text among those of its length. Raises TokenError if that is 0."""
        if strange := sorted(set(text) - self.place.keys()):
            raise TokenError(f"markov: the alphabet {self.alphabet!r} lacks {''.join(strange)!r}")
        if len(text) < self.order:
            raise TokenError(f"markov: expected {self.order} characters or more, found {text!r}")
        V, k, n = len(self.alphabet), self.order, len(text) - self.order
        ids = np.array([self.place[character] for character in text], int)
        context = sum((ids[i : i + n + 1] * V ** (k - 1 - i) for i in range(k)), np.zeros(n + 1, int))
        p = np.append(self.P[context[:-1], ids[k:]], self.start[context[0]])
        if not p.all():
            raise TokenError(f"markov: this chain cannot write {text[:40]!r}")
        return float(-np.log(p).sum())


def stationary(P):
    """The distribution of contexts that one more character does not change: start = start M, and its sum is 1.

    Context i followed by character j becomes context (i V + j) mod Vᵏ: the earliest character is dropped.
    """
    n, V = P.shape
    M, i = np.zeros((n, n)), np.arange(n)[:, None]
    M[i, (i * V + np.arange(V)) % n] = P
    equations, right = np.eye(n) - M.T, np.zeros(n)
    equations[-1], right[-1] = 1, 1  # replaces one equation, which follows from the others
    try:
        start = np.linalg.solve(equations, right)
    except np.linalg.LinAlgError:
        start = -right
    if not start.min() > -TOLERANCE:
        raise ConfigError("markov: this chain is not irreducible; choose a larger concentration")
    return np.maximum(start, 0)


def entropies(P):
    """−Σ p log p over the last axis, with 0 log 0 = 0."""
    return -(P * np.log(np.where(P > 0, P, 1))).sum(-1)


def cumulative(p):
    """Cumulative probabilities for `bisect`; the last one is exactly 1."""
    sums = np.cumsum(p)
    return (sums / sums[-1]).tolist()
