"""Batches of a mixture: which source each window comes from, and which window of that source.

Sources alternate in a fixed order, because random draws would leave the shares to chance. A period has D windows, D
the least common denominator of the weights w_k, and q_k = D w_k of them are of source k. Place each source's windows
evenly in the period, window m = 0, 1, … at (m + ½) / q_k; the order of the places, ties in the order of the sources,
is the order of the windows. Then among the first n windows of a run with K sources

    |windows of source k − n w_k| ≤ ½ (1 + (K − 2) w_k).

Proof. Full periods are exact, so let n ≤ D, and let t be the place of the last of these windows. Of source j, all
windows before t are among them, and those at t may be. As (m + ½) / q_j < t for ⌈q_j t − ½⌉ and ≤ t for ⌊q_j t + ½⌋ of
them, their number is c_j = q_j t + e_j with |e_j| ≤ ½. Summed over j: n = D t + Σ e_j, thus t = (n − Σ e_j) / D and
c_k − n w_k = e_k − w_k Σ_j e_j = (1 − w_k) e_k − w_k Σ_{j≠k} e_j, at most ½ (1 − w_k) + ½ (K − 1) w_k in size.  ∎

With two sources a share is never off by more than half a window, with five by at most two.
"""

from functools import lru_cache

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.data.loader import BatchStream, check_length, epoch_windows
from tinygrad_lm.data.mixture.permutation import ROUNDS, permute
from tinygrad_lm.data.mixture.source_weights import period, weight_problems
from tinygrad_lm.errors import ConfigError, DataError


class MixtureBatches(BatchStream):
    """Windows of several sources in proportion to their weights (see above and BatchStream).

    In each epoch a source is cut into adjacent windows from a random offset, in a random order (permutation.py). So
    within an epoch no token is a target twice, and less than two windows at the ends are left out.

    sources: {name: (weight, tokens)}; tokens: anything with a length and `read(start, count)`, such as Shards
    rank, world: process `rank` of `world` takes its rows of the batch, which is the same for any number of processes
    """

    def __init__(self, sources, batch_size, block_size, seed=0, accumulate=1, rank=0, world=1, document_token=None):
        super().__init__(sources, batch_size, block_size, seed, accumulate)
        if world < 1 or not 0 <= rank < world or batch_size % world:
            raise ConfigError(
                f"mixture: expected a rank from 0 to world size − 1, and a batch size divisible by it; found "
                f"rank {rank}, world size {world}, batches of {batch_size}"
            )
        problems = []
        for name, (_, tokens) in sources.items():
            try:
                check_length(tokens, block_size)
            except DataError as error:
                problems.append(f"source {name!r}: {error}")
        weights = [weight for weight, _ in sources.values()]
        problems += weight_problems(sources, weights)
        if problems:
            raise DataError("\n".join(["mixture:", *problems]))
        self.rank, self.world, self.document_token = rank, world, document_token
        self.turns, self.before = alternation(weights)  # (D,), (D,)
        self.q = np.array([int(weight * len(self.turns)) for weight in weights])  # windows a period
        self.windows, self.slack = np.array(
            [epoch_windows(len(tokens), block_size) for _, tokens in sources.values()]
        ).T

    def __call__(self, step, part=0):
        rows, T = self.batch_size // self.world, self.block_size
        first = (step * self.accumulate + part) * self.batch_size + self.rank * rows
        tokens = [tokens for _, tokens in self.sources.values()]
        windows = np.empty((rows, T + 1), np.int32)
        for row, (source, start) in enumerate(zip(*self.places(first, rows), strict=True)):
            windows[row] = tokens[source].read(start, T + 1)
        return windows[:, :-1], windows[:, 1:]

    def places(self, first, count):
        """(sources, starts) of `count` windows from window number `first` of the run: two lists of integers."""
        cycle, place = np.divmod(np.arange(first, first + count), len(self.turns))
        source = self.turns[place]
        epoch, window = np.divmod(cycle * self.q[source] + self.before[place], self.windows[source])
        names = list(self.sources)
        drawn = [
            epoch_order(self.seed, names[k], e, int(self.slack[k]))
            for k, e in zip(source.tolist(), epoch.tolist(), strict=True)
        ]
        keys = np.stack([keys for _, keys in drawn], axis=1)
        window = permute(window.astype(np.uint64), self.windows[source].astype(np.uint64), keys).astype(np.int64)
        start = np.array([offset for offset, _ in drawn]) + window * self.block_size
        return source.tolist(), start.tolist()

    def counts(self, n):
        cycles, rest = divmod(n, len(self.turns))
        return (cycles * self.q + np.bincount(self.turns[:rest], minlength=len(self.q))).tolist()

    def beginning(self, count):
        """The first tokens of each source, about in proportion to the weights; at most `count` in all."""
        parts = [tokens.read(0, min(len(tokens), 1 + int(weight * count))) for weight, tokens in self.sources.values()]
        return np.concatenate(parts)[:count]


def alternation(weights):
    """The source of each window in a period, (D,), and how many windows of that source come before it, (D,)."""
    D = period(weights)
    counts = [int(weight * D) for weight in weights]
    source = np.repeat(np.arange(len(weights)), counts)
    before = np.concatenate([np.arange(q) for q in counts])
    # Correctly rounded quotients keep the order of the fractions, and equal fractions give equal quotients: different
    # ones differ by 1 / (2 q_j q_k) or more, and q ≤ 10⁶ (source_weights.py).
    place = (2 * before + 1) / (2 * np.array(counts))[source]
    turns = np.argsort(place, kind="stable")
    return source[turns], before[turns]


@lru_cache(maxsize=1024)
def epoch_order(seed, name, epoch, slack):
    """An epoch of a source: an offset from 0 to slack, and the permutation keys (ROUNDS,) of its windows."""
    rng = random(seed, f"mixture/{name}", epoch)
    return int(rng.integers(slack + 1)), rng.integers(2**64, size=ROUNDS, dtype=np.uint64)
