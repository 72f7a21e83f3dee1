"""Which tokens come next, given the model's logits."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.errors import DivergedError, check_ranges

# B texts, V vocabulary, K candidates


def is_whole(x, least=0):
    """Whether x is a whole number, at least so large."""
    return isinstance(x, Integral) and x >= least


@dataclass(frozen=True)
class Sampler:
    """How a token is drawn from its distribution P = softmax(logits / temperature). The filters apply in this order.

    repetition_penalty  logits of tokens that the text has already are divided by it where positive, multiplied where
                        negative: above 1 they get unlikelier (Keskar et al. 2019, "CTRL", section 4.1)
    temperature         below 1 likely tokens get likelier; 0 always takes the likeliest
    top_k               draw among the k likeliest only; 0: among all
    top_p               draw among the likeliest that together have this probability (Holtzman et al. 2020, "nucleus")
    min_p               draw among those with at least this share of the likeliest's probability (Nguyen et al. 2024)
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        ranges = {
            "temperature": ("at least 0", lambda x: 0 <= x < np.inf),
            "top_k": ("at least 0 and a whole number", is_whole),
            "top_p": ("above 0 and at most 1", lambda x: 0 < x <= 1),
            "min_p": ("from 0 to 1", lambda x: 0 <= x <= 1),
            "repetition_penalty": ("positive", lambda x: 0 < x < np.inf),
        }
        settings = {name: (getattr(self, name), *range_) for name, range_ in ranges.items()}
        ranges = {name: (x, rule, isinstance(x, Real) and holds(x)) for name, (x, rule, holds) in settings.items()}
        check_ranges("sampling", ranges)

    def draw(self, logits: np.ndarray, texts: list[list[int]], u: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """A token for each text, and log P of it under the distribution that it was drawn from; (B,) each.

        logits: (B, V); texts: the ids so far of each; u: (B,) in [0, 1), where the cumulative probability is cut;
        temperature 0 needs none.
        """
        if not np.isfinite(largest := logits.max(1)).all():
            raise DivergedError(f"sampling: the largest logits are {largest}; the model's weights may be damaged")
        if self.repetition_penalty != 1:
            logits = np.stack([self.penalised(*pair) for pair in zip(logits, texts, strict=True)])
        if self.temperature == 0:
            return logits.argmax(1), np.zeros(len(logits))
        tokens, p = self.candidates(logits)
        cumulative = p.cumsum(1)
        total, rows = cumulative[:, -1], np.arange(len(p))
        drawn = np.count_nonzero(cumulative <= (u * total)[:, None], 1)  # below K: u total < total
        return tokens[rows, drawn], np.log(p[rows, drawn] / total)

    def penalised(self, logits, text):
        """The logits (V,) of one text, those of its tokens made unlikelier."""
        logits, seen = logits.copy(), np.unique(text)
        seen = seen[seen < len(logits)]  # a prompt may have ids that are never drawn
        z = logits[seen]
        logits[seen] = np.where(z > 0, z / self.repetition_penalty, z * self.repetition_penalty)
        return logits

    def candidates(self, logits):
        """The tokens to draw from, and their probabilities up to a factor, (B, K) each: by id, or filtered.

        Filtered ones come likeliest first; where a row has fewer than K of them, zeros follow.
        """
        z = np.subtract(logits, logits.max(1, keepdims=True), dtype=np.float64)
        z /= self.temperature
        p = np.exp(z, out=z)
        if not 0 < self.top_k < p.shape[1] and self.top_p == 1 and self.min_p == 0:
            return np.broadcast_to(np.arange(p.shape[1]), p.shape), p
        kept = [self.filtered(row) for row in p]
        tokens, p = np.zeros((2, len(kept), max(len(row) for _, row in kept)))
        for b, (ids, row) in enumerate(kept):
            tokens[b, : len(ids)], p[b, : len(row)] = ids, row
        return tokens.astype(int), p

    def filtered(self, p):
        """The tokens that the filters leave of one text's, likeliest first, and their probabilities up to a factor."""
        k = self.top_k if self.top_k < len(p) else 0
        # First drop what no filter lets through: sorting a whole vocabulary would take longer than all the rest.
        if k:
            least = np.partition(p, -k)[-k]
        elif self.top_p < 1:  # together those below have less than 1 − top_p; a little lower, for sums are rounded
            least = 0.999 * (1 - self.top_p) * p.mean()
        else:
            least = self.min_p
        kept = np.flatnonzero(p >= least)
        tokens = kept[np.argsort(-p[kept], kind="stable")][: k or None]
        total = p[tokens].sum() if k else p.sum()
        p = p[tokens]
        if self.top_p < 1:
            p = p[: int(np.searchsorted(p.cumsum(), self.top_p * total)) + 1]
        p = p[p >= self.min_p]
        return tokens[: len(p)], p


def uniform(seed, step, rows):
    """The numbers in [0, 1), (B,), with which the texts draw: of each row random(seed, "sample", step, row)'s first.

    One generator goes from row to row. Its counter of 256 bits (0, step, row, 0), lowest first, has the row at 2¹²⁸;
    a draw counts 1. Making a generator for each row takes four times as long.
    """
    generator, place, numbers = random(seed, "sample", step), 0, []
    for row in rows:
        generator.bit_generator.advance((row << 128) - place)
        numbers.append(generator.random())
        place = (row << 128) + 1
    return np.array(numbers)
