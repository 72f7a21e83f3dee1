"""Pairs of answers for the objectives dpo and bradley_terry (objectives.py), and how well a model tells them apart.

B pairs, n all pairs, T time. Of a pair the better answer comes first.
"""

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.posttrain.data.conversations import Pairs
from tinygrad_lm.posttrain.reward import whole_answers


class Comparisons(Pairs):
    """Batches tokens (B, 2, T), ends (B, 2), for a reward model: whole answers, and where their last tokens are."""

    beta = 1.0

    def batch(self, rows):
        return whole_answers(*super().batch(rows))

    def scores(self, model, tokens, ends):
        """The reward of each answer of a batch, (B, 2)."""
        rows = to_device(tokens.reshape(-1, tokens.shape[-1]), model.flat.device)
        return model.reward(rows, to_device(ends.reshape(-1), model.flat.device)).numpy().reshape(-1, 2)


class Preferences(Pairs):
    """Batches tokens (B, 2, T), targets (B, 2, T), reference (B, 2), for DPO: the last is the log-probability of whole
    answers by the model `reference`, which is computed once."""

    def __init__(self, pairs, chat, *arguments, reference, beta, **options):
        super().__init__(pairs, chat, *arguments, **options)
        self.beta, none = beta, np.zeros(2, reference.flat.data.dtype)
        self.rows = [(*pair, none) for pair in self.rows]
        self.rows = [(*pair, logp) for (*pair, _), logp in zip(self.rows, every_score(self, reference), strict=True)]

    def batch(self, rows):
        *pairs, reference = zip(*rows, strict=True)
        return *super().batch([*zip(*pairs, strict=True)]), np.stack(reference)

    def scores(self, model, tokens, targets, reference):
        """log(π / π_ref) of each answer of a batch, (B, 2), in nats: β times that is the reward it stands for."""
        rows = (to_device(x.reshape(-1, x.shape[-1]), model.flat.device) for x in (tokens, targets))
        return model.log_probability(*rows).numpy().sum(axis=1).reshape(-1, 2) - reference


def every_score(stream, model):
    """The scores of all pairs of a stream, in the order of its rows, (n, 2)."""

    def scores(batch):
        with no_grad():
            return stream.scores(model, *batch)

    found = np.concatenate(dealt(scores, stream.once())).reshape(-1, 2).astype(model.flat.data.dtype)
    return found[np.argsort(stream.order, kind="stable")]


def evaluate_pairs(model, stream):
    """The mean loss of a stream's pairs, {its name: that}, and other figures.

    accuracy: the share of pairs whose better answer has the higher score, a tie is half; chosen and rejected: the mean
    score of the better and the other answers; their difference is the margin
    """
    scores = every_score(stream, model).astype(float)
    margins = scores[:, 0] - scores[:, 1]
    loss = np.logaddexp(0, -stream.beta * margins).mean()
    chosen, rejected = scores.mean(axis=0)
    accuracy = ((margins > 0) + (margins == 0) / 2).mean()
    figures = {"accuracy": accuracy, "chosen": chosen, "rejected": rejected, "margin": margins.mean()}
    return float(loss), {stream.name: float(loss)}, {name: float(value) for name, value in figures.items()}
