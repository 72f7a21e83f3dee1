"""What a model thinks of a text: how likely it found each token, and what it expects next.

T tokens, V vocabulary. Logarithms are natural: log-probabilities and entropies are in nats.
"""

from typing import NamedTuple

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.generation.generate import log_softmax

ROWS = 64  # positions whose logits are looked at together: all at once would take a gigabyte for a large vocabulary


class Scores(NamedTuple):
    """Of each token after the first: log P, its rank (1: the likeliest), its prediction's entropy; (T − 1,) each."""

    logprobs: np.ndarray
    ranks: np.ndarray
    entropies: np.ndarray


class Candidate(NamedTuple):
    """A token that may come next, its rank (1: the likeliest), P by the model, and P by which it is drawn."""

    token: int
    rank: int
    before: float
    after: float


def scores(model, tokens):
    """The Scores of a text that fits the context: a list of ids."""
    found = [np.empty((0, 3))]
    with no_grad():
        x = model.features(to_device(np.array([tokens]), model.flat.device))
        for start in range(0, len(tokens) - 1, ROWS):
            targets = np.array(tokens[start + 1 : start + 1 + ROWS])
            logs = log_softmax(model.logits(x[0, start : start + len(targets)]).numpy())
            own = logs[np.arange(len(targets)), targets]
            ranks = 1 + (logs > own[:, None]).sum(1)
            found.append(np.stack([own, ranks, entropy(logs)], 1))
    logprobs, ranks, entropies = np.concatenate(found).T
    return Scores(logprobs, ranks.astype(int), entropies)


def next_logits(model, tokens):
    """The logits of what follows a text, (V,)."""
    with no_grad():
        x = model.features(to_device(np.array([tokens[-model.config.block_size :]]), model.flat.device))
        return model.logits(x[0, -1:]).numpy()[0]


def candidates(logits, sampler, text, vocab_size, top, also=()):
    """(the `top` likeliest as Candidates, entropy before and after, how many can be drawn), of logits (V,).

    sampler: what makes "after" of "before", after the ids `text`; vocab_size: no id from there on is drawn; also: ids
    that are among the Candidates, at the end if they are not among the likeliest
    """
    logs = log_softmax(logits)
    before, after = np.exp(logs), np.zeros(len(logits))
    open_to_draw = sampler.penalised(logits, text)[:vocab_size]
    if sampler.temperature == 0:
        after[open_to_draw.argmax()] = 1
    else:
        (tokens,), (p,) = sampler.candidates(open_to_draw[None])
        after[tokens] = p / p.sum()
    order = np.argsort(-before, kind="stable")
    ranks = {int(i): rank for rank, i in enumerate(order, start=1) if rank <= top or i in also}
    shown = [Candidate(i, rank, float(before[i]), float(after[i])) for i, rank in ranks.items()]
    with np.errstate(divide="ignore"):
        return shown, float(entropy(logs)), float(entropy(np.log(after))), int((after > 0).sum())


def entropy(logs):
    """−Σ P log P of log-probabilities (..., V); where P is 0 nothing is added."""
    return -(np.exp(logs) * np.maximum(logs, -1e300)).sum(-1)
