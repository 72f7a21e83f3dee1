"""Batches of (inputs, targets) from a long sequence of token ids, for a training step or an evaluation.

The target of each position is the next token, so a window of T + 1 tokens gives T examples.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.errors import DataError


class BatchStream:
    """Base class of the batches of one text (Batches) and of a mixture (MixtureBatches).

    `stream(step, part)` returns inputs (B, T) and targets (B, T), which depend on these numbers and the seed alone, so
    a resumed run sees the same data. `part` counts the `accumulate` batches of one step.

    sources: {name: (weight, tokens)}, weights as Fractions that add up to 1. A subclass adds `__call__`, `counts(n)`,
    how many of the first n windows of a run each source has, and `beginning(count)`.
    document_token: the end-of-text id if attention stays inside documents (`document_starts`), else None
    """

    document_token: int | None = None
    counts: Callable[[int], list[int]]

    def __init__(self, sources: dict, batch_size: int, block_size: int, seed: int, accumulate: int):
        self.sources, self.batch_size, self.block_size = sources, batch_size, block_size
        self.seed, self.accumulate = seed, accumulate

    @property
    def tokens_a_step(self) -> int:
        return self.batch_size * self.accumulate * self.block_size

    def used(self, steps: int) -> dict[str, dict[str, float]]:
        """{source: {"requested", "realised", "error", "epochs"}} after so many steps: the requested and the realised
        share of the tokens, their difference, and the passes over the source. {} for no steps."""
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

    def amount(self, steps: int) -> str:
        """What so many steps are, in words."""
        size = self.tokens_a_step
        epochs = steps * size / sum(len(tokens) for _, tokens in self.sources.values())
        return f"{steps:,} steps of {size:,} tokens, {epochs:.2g} epochs"

    def figures(self, step: int, loss: float) -> dict[str, float]:
        """What the log says of a step, {name: number}, the first of them first; loss: what was minimised."""
        return {"loss": loss}

    def steps_within(self, epochs: int) -> int:
        """The most steps that pass over no source more than `epochs` times; at least one."""
        steps = (epochs * len(tokens) // (weight * self.tokens_a_step) for weight, tokens in self.sources.values())
        return max(1, min(steps))


class Batches(BatchStream):
    """Windows of a text in random order.

    In each epoch the text is cut into adjacent windows from a random offset, and these are shuffled. So within an epoch
    no token is a target twice, and less than two windows at the ends are left out. (Independent draws would leave out a
    twentieth of the text in three epochs.)
    """

    def __init__(
        self, tokens: np.ndarray, batch_size: int, block_size: int, seed: int = 0, accumulate: int = 1,
        name: str = "text",
    ):  # fmt: skip
        check_length(tokens, block_size)
        super().__init__({name: (Fraction(1), tokens)}, batch_size, block_size, seed, accumulate)
        self.tokens = tokens

    def __call__(self, step: int, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
        first = (step * self.accumulate + part) * self.batch_size
        starts = [self.start(i) for i in range(first, first + self.batch_size)]
        windows = self.tokens[np.array(starts)[:, None] + np.arange(self.block_size + 1)]
        return windows[:, :-1], windows[:, 1:]

    def start(self, i: int) -> int:
        """Where window i of the run begins."""
        count, slack = epoch_windows(len(self.tokens), self.block_size)
        epoch, place = divmod(i, count)
        offset, order = shuffled_windows(self.seed, epoch, count, slack)
        return offset + int(order[place]) * self.block_size

    def counts(self, n: int) -> list[int]:
        return [n]

    def beginning(self, count: int) -> np.ndarray:
        """The first `count` tokens of the text, or all."""
        return self.tokens[:count]


def epoch_windows(length, block_size):
    """(number of windows in an epoch, one less than fit; largest offset of the first one)"""
    pairs = length - 1  # of an input and its target
    count = max(1, pairs // block_size - 1)
    return count, pairs - count * block_size


@lru_cache(maxsize=4)
def shuffled_windows(seed, epoch, count, slack):
    """A random offset from 0 to slack, and a random permutation of range(count)."""
    rng = random(seed, "batches", epoch)
    return int(rng.integers(slack + 1)), rng.permutation(count)


def windows(tokens, block_size, batch_size, blocks=None):
    """Yield the whole text in order, each token but the first as a target exactly once.

    Inputs and targets are (b, T) with b ≤ batch_size and T = block_size; the remainder is a last, shorter window.
    blocks: the numbers of the windows that are wanted, without the remainder [all, with it]
    """
    check_length(tokens, 1)
    whole = (len(tokens) - 1) // block_size
    starts = (np.arange(whole) if blocks is None else blocks)[:, None] * block_size + np.arange(block_size)
    for i in range(0, len(starts), batch_size):
        yield tokens[starts[i : i + batch_size]], tokens[starts[i : i + batch_size] + 1]
    if blocks is None and (len(tokens) - 1) % block_size:
        rest = tokens[whole * block_size :][None]
        yield rest[:, :-1], rest[:, 1:]


def document_starts(tokens, eot):
    """Where the document of each position begins: integers (..., T), as tokens.

    A document begins with the end-of-text token, `eot`. Tokens before the first one of a window belong to a document
    that began earlier, and start at 0.
    """
    return np.maximum.accumulate(np.where(tokens == eot, np.arange(tokens.shape[-1]), 0), axis=-1)


def check_length(tokens, block_size):
    """Raise DataError unless a text is longer than a context."""
    if len(tokens) <= block_size:
        raise DataError(
            f"a text of {len(tokens):,} tokens is too short; expected at least {block_size + 1:,}, a context "
            "and one more\n"
            "  hint : give a longer text, or choose a model with a shorter context"
        )
