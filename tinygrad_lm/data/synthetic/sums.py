"""Sums of two digits, 17+05= then 022, shown with a known share of mistakes: what imitation ends at is known exactly.

A wrong demonstration has one digit of three replaced by another, all 27 ways equally likely. Imitation at its best
gives each answer with the probability that it is shown with: its loss is sums_entropy, and it is right with probability
1 − noise. A verified reward is largest where the answer is right with probability 1.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log

from tinygrad_lm.backend import random
from tinygrad_lm.data.config_table import number_kind
from tinygrad_lm.data.synthetic.instructions import TASKS, Conversation, check_split, message, split_of
from tinygrad_lm.data.synthetic.synthetic_source import Sentences, option
from tinygrad_lm.errors import ConfigError

DIGITS, OTHERS = 3, 9  # of an answer; what may stand instead of one


def sums(count, seed=0, split="train", noise=0.0, first=0):
    """Yield the conversations first, …, count − 1 of a seed and split: uniform over the sums of the split.

    noise: the share of demonstrations that are wrong; `answer` is right always
    """
    check_split(split)
    if not 0 <= noise < 1:
        raise ConfigError(f"sums: noise must be at least 0 and below 1, found {noise}")
    return (draw_sum(random(seed, f"sums/{split}", i), split, noise) for i in range(first, count))


def draw_sum(rng, split, noise):
    while True:
        a, b = rng.integers(100, size=2).tolist()
        prompt = f"{a:02d}+{b:02d}="
        if split == split_of(prompt):
            break
    answer = shown = f"{a + b:03d}"
    if rng.random() < noise:
        place = int(rng.integers(DIGITS))
        digit = (int(answer[place]) + 1 + int(rng.integers(OTHERS))) % 10
        shown = f"{answer[:place]}{digit}{answer[place + 1 :]}"
    return Conversation("sum", [message("user", prompt), message("assistant", shown)], answer, "equal")


def sums_entropy(noise):
    """The nats of a demonstration, given its sum: the lowest expected loss of an answer, its end included."""
    return -(1 - noise) * log(1 - noise) - (noise * (log(noise) - log(DIGITS * OTHERS)) if noise else 0.0)


@dataclass(frozen=True)
class Additions(Sentences):
    """Lines such as What is 14 plus 37? 51: text to learn from what instructions.py asks for, in the same words.

    Sums that are asked for in held-out instructions do not occur.
    """

    sentences: float = option(10.0, number_kind(1))  # per document, on average

    @cached_property
    def lines(self):
        numbers = range(10, 50)
        pairs = [(a, b) for a in numbers for b in numbers if split_of(f"add {a} {b}") == "train"]
        return [f"{asked.format(a=a, b=b)} {a + b}\n" for asked in TASKS["add"].phrasings for a, b in pairs]
