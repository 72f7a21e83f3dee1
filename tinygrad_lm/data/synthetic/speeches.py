"""Speeches of the built-in play as conversations, and a preference for fewer lines: the best policy is known exactly.

The user names a speaker; the assistant gives the lines. The number of lines n of the grammar is geometric,
π(n) = (1 − q) qⁿ⁻¹ with q = 2/3. The reward −n tilts it to π*(n) ∝ π(n) exp(−n/β) (Rafailov et al. 2023, "Direct
Preference Optimization", equation 4), which is geometric again, with q* = q exp(−1/β); within a number of lines nothing
changes. Speeches as long as you like are possible.
"""

from math import exp, inf, log, log1p
from typing import NamedTuple

from tinygrad_lm.backend import random
from tinygrad_lm.data.synthetic.instructions import Conversation, check_split, message
from tinygrad_lm.data.synthetic.play import CAST, RULES, speeches

GO_ON = next(p for p, parts in RULES["speech"] if "speech" in parts)  # q: that a line is not the last


class Pair(NamedTuple):
    prompt: list  # of messages
    chosen: str
    rejected: str


class Optimum(NamedTuple):
    """The policy that maximises E r − β KL(π, π_ref): nats and lines of an answer."""

    lines: float
    kl: float
    objective: float  # = β log Z


def play_conversations(count, seed=0, split="train", first=0):
    """Yield the conversations first, …, count − 1 of a seed and split, the speakers of the cast equally often.

    The names are the same in both splits: there are no others. The speeches are drawn independently.
    """
    check_split(split)
    return (draw_speech(random(seed, f"speeches/{split}", i)) for i in range(first, count))


def draw_speech(rng):
    name, _, lines = next(speeches(rng)).partition(":\n")
    lines = lines.removesuffix("\n\n")
    return Conversation("play", [message("user", name), message("assistant", lines)], "speech", "grammar")


def play_pairs(count, seed=0, split="train", first=0):
    """Yield preference pairs: two speeches for one name, labelled as Bradley and Terry (1952) with the reward −n.

    P(a is chosen) = σ(n_b − n_a), n the number of lines
    """
    check_split(split)
    return (draw_pair(random(seed, f"pairs/{split}", i)) for i in range(first, count))


def draw_pair(rng):
    name = CAST[int(rng.integers(len(CAST)))]
    a, b = (draw_speech(rng).messages[-1]["content"] for _ in range(2))
    better = rng.random() < sigmoid(count_lines(b) - count_lines(a))
    return Pair([message("user", name)], *((a, b) if better else (b, a)))


def count_lines(text):
    return text.count("\n") + 1


def fewer_lines(beta):
    """The Optimum of the reward −lines at this β; the grammar itself for β = ∞."""
    q = GO_ON * exp(-1 / beta)
    mean = 1 / (1 - q)
    kl = (mean - 1) * log(q / GO_ON) + log1p(-q) - log1p(-GO_ON)
    return Optimum(mean, kl, -mean if beta == inf else -mean - beta * kl)


def best_gains():
    """[(KL, gain), …] over β: the most that −lines can gain over the grammar at a KL divergence, in nats."""
    optima = [fewer_lines(1 / tilt) for tilt in (i / 20 for i in range(1, 101))]
    return [(0.0, 0.0), *((best.kl, fewer_lines(inf).lines - best.lines) for best in optima)]


def label_floors():
    """(nats, accuracy): the lowest expected loss of a reward model or of DPO on `play_pairs`, and the highest accuracy.

    The difference d of two geometric numbers has the probability (1 − q) / (1 + q) q^|d|; a label costs H(σ(d)).
    """
    nats = accuracy = 0.0
    for d in range(200):  # 2 q²⁰⁰ is far below rounding
        p = (1 - GO_ON) / (1 + GO_ON) * GO_ON**d * (2 if d else 1)
        nats += p * (log1p(exp(-d)) + d * sigmoid(-d))
        accuracy += p * sigmoid(d)
    return nats, accuracy


def sigmoid(x):
    return 1 / (1 + exp(-x))
