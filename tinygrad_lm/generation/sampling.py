"""Which token comes next, given the model's logits."""

from dataclasses import dataclass

import numpy as np

from tinygrad_lm.errors import DivergedError, check_ranges


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
            "temperature": (self.temperature, "at least 0", 0 <= self.temperature < np.inf),
            "top_k": (self.top_k, "at least 0", self.top_k >= 0),
            "top_p": (self.top_p, "above 0 and at most 1", 0 < self.top_p <= 1),
            "min_p": (self.min_p, "from 0 to 1", 0 <= self.min_p <= 1),
            "repetition_penalty": (self.repetition_penalty, "positive", 0 < self.repetition_penalty < np.inf),
        }
        check_ranges("sampling", ranges)

    def draw(self, logits, text, u):
        """A token. logits: (V,); text: the ids so far; u: in [0, 1), where the cumulative probability is cut."""
        if not np.isfinite(logits.max()):
            raise DivergedError(f"sampling: the largest logit is {logits.max()}; the model's weights may be damaged")
        if self.repetition_penalty != 1:
            logits, seen = logits.copy(), np.unique(text)
            z = logits[seen]
            logits[seen] = np.where(z > 0, z / self.repetition_penalty, z * self.repetition_penalty)
        if self.temperature == 0:
            return int(logits.argmax())
        tokens, p = self.candidates(logits)
        cumulative = p.cumsum()
        return int(tokens[min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(p) - 1)])

    def candidates(self, logits):
        """The tokens to draw from, and their probabilities up to a factor: by id, or likeliest first if filtered."""
        p = np.exp((logits - logits.max()).astype(np.float64) / self.temperature)
        k = self.top_k if self.top_k < len(p) else 0
        if k == 0 and self.top_p == 1 and self.min_p == 0:
            return np.arange(len(p)), p
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
        return tokens, p[p >= self.min_p]
