"""From a long row of token ids to the (inputs, targets) that a training step or an evaluation takes.

The target of each position is the token after it, so a window of T + 1 tokens makes T examples.
"""

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.errors import DataError


class Batches:
    """Random windows of a text: `batches(step)` -> inputs (B, T) and targets (B, T).

    The batch is a function of (seed, step, part) alone, so a resumed run sees what an undisturbed one would have seen.
    `part` counts the batches within one step.
    """

    def __init__(self, tokens, batch_size, block_size, seed=0):
        check_length(tokens, block_size)
        self.tokens, self.batch_size, self.block_size, self.seed = tokens, batch_size, block_size, seed

    def __call__(self, step, part=0):
        last = len(self.tokens) - self.block_size  # the last place at which inputs and targets fit, plus one
        starts = random(self.seed, "batches", step, part).integers(0, last, self.batch_size)
        windows = self.tokens[starts[:, None] + np.arange(self.block_size + 1)]
        return windows[:, :-1], windows[:, 1:]


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


def check_length(tokens, block_size):
    """A text must be longer than a context."""
    if len(tokens) <= block_size:
        raise DataError(
            f"a text of {len(tokens):,} tokens is too short: a context and one more, {block_size + 1:,}, are needed\n"
            "  hint : give a longer text, or choose a model with a shorter context"
        )
