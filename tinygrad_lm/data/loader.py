"""From a long row of token ids to the (inputs, targets) that a training step or an evaluation takes.

The target of each position is the token after it, so a window of T + 1 tokens makes T examples.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.errors import DataError


class Stream:
    """What the batches of one text and those of a mixture (mixing.py) share. `stream(step, part)` -> inputs (B, T) and
    targets (B, T), a function of these numbers and the seed alone: a resumed run sees what an undisturbed one would
    have seen. `part` counts the batches within one step, of which there are `accumulate`.

    sources: {name: (weight, tokens)}, weights as Fractions that add up to 1. Each kind of stream adds `__call__`,
    `counts(n)`, how many of the first n windows of the training each source has, and `beginning(count)`.
    document_token: the id of end-of-text, where attention is to be kept inside documents (`document_starts`).
    """

    document_token = None

    def __init__(self, sources, batch_size, block_size, seed, accumulate):
        self.sources, self.batch_size, self.block_size = sources, batch_size, block_size
        self.seed, self.accumulate = seed, accumulate

    @property
    def tokens_a_step(self):
        return self.batch_size * self.accumulate * self.block_size

    def used(self, steps):
        """What so many steps take of each source, {name: …}: its share of the tokens that was asked for and the one
        that came about, the difference, and how many times its tokens were passed; {} for no steps."""
        n = steps * self.accumulate * self.batch_size
        return {
            name: {
                "requested": float(weight),
                "realised": count / n,
                "error": float(Fraction(count, n) - weight),
                "epochs": count * self.block_size / len(tokens),
            }
            for (name, (weight, tokens)), count in zip(self.sources.items(), self.counts(n), strict=True)
            if n
        }

    def steps_within(self, epochs):
        """How many steps pass no source more often than that; at least one."""
        steps = (epochs * len(tokens) // (weight * self.tokens_a_step) for weight, tokens in self.sources.values())
        return max(1, min(steps))


class Batches(Stream):
    """Windows of a text in random order.

    In each epoch the text is cut into windows side by side, from another place on, and they are shuffled. So within an
    epoch no token is a target twice, and less than two windows at the ends are left out; drawn independently, three
    epochs' worth of windows would leave out a twentieth of the text.
    """

    def __init__(self, tokens, batch_size, block_size, seed=0, accumulate=1, name="text"):
        check_length(tokens, block_size)
        super().__init__({name: (Fraction(1), tokens)}, batch_size, block_size, seed, accumulate)
        self.tokens = tokens

    def __call__(self, step, part=0):
        first = (step * self.accumulate + part) * self.batch_size
        starts = [self.start(i) for i in range(first, first + self.batch_size)]
        windows = self.tokens[np.array(starts)[:, None] + np.arange(self.block_size + 1)]
        return windows[:, :-1], windows[:, 1:]

    def start(self, i):
        """Where window i of the whole training begins."""
        count, slack = cut(len(self.tokens), self.block_size)
        epoch, place = divmod(i, count)
        offset, order = shuffled(self.seed, epoch, count, slack)
        return offset + int(order[place]) * self.block_size

    def counts(self, n):
        return [n]

    def beginning(self, count):
        """The first tokens of the text, at most so many."""
        return self.tokens[:count]


def cut(length, block_size):
    """How many windows an epoch of a text has, one less than fit, and how many places they can shift on by."""
    pairs = length - 1  # of an input and its target
    count = max(1, pairs // block_size - 1)
    return count, pairs - count * block_size


@lru_cache(maxsize=4)
def shuffled(seed, epoch, count, slack):
    """An offset from 0 to slack, and the numbers below count in random order."""
    rng = random(seed, "batches", epoch)
    return int(rng.integers(slack + 1)), rng.permutation(count)


def windows(tokens, block_size, batch_size):
    """The whole text in order, each token but the first as a target exactly once.

    Yields inputs and targets (b, T) with b ≤ batch_size and T = block_size; what is left over comes last, a shorter
    window of its own.
    """
    check_length(tokens, 1)
    whole = (len(tokens) - 1) // block_size
    starts = np.arange(whole)[:, None] * block_size + np.arange(block_size)
    for i in range(0, whole, batch_size):
        yield tokens[starts[i : i + batch_size]], tokens[starts[i : i + batch_size] + 1]
    if (len(tokens) - 1) % block_size:
        rest = tokens[whole * block_size :][None]
        yield rest[:, :-1], rest[:, 1:]


def document_starts(tokens, eot):
    """Where the document of each position begins: integers (..., T), as tokens.

    A document begins with its end-of-text token, `eot`; what comes before the first one of a window is the rest of a
    document that began earlier, and starts at 0.
    """
    return np.maximum.accumulate(np.where(tokens == eot, np.arange(tokens.shape[-1]), 0), axis=-1)


def check_length(tokens, block_size):
    """A text must be longer than a context."""
    if len(tokens) <= block_size:
        raise DataError(
            f"a text of {len(tokens):,} tokens is too short: a context and one more, {block_size + 1:,}, are needed\n"
            "  hint : give a longer text, or choose a model with a shorter context"
        )
