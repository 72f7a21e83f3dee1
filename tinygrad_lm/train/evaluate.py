"""How good a model is on text it was not trained on, and how good simple counting is on the same text."""

from typing import Any

import numpy as np

from tinygrad_lm.backend import random, to_device
from tinygrad_lm.data.loader import BatchStream, document_starts, windows
from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.nn.context import Context
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.objective import next_token


def evaluate(
    model: Any, tokens: np.ndarray, batch_size: int, document_token: int | None = None,
    blocks: np.ndarray | None = None, ranks: Any = None,
) -> float:  # fmt: skip
    """Mean cross-entropy in nats over every token of a text but the first, in windows of the model's context.

    Deterministic: no sampling, no dropout. Each window starts without context, so the first tokens of a window are
    harder.
    document_token: end-of-text, where the model was trained with attention inside documents alone.
    blocks: the numbers of the windows that are measured [all]
    ranks: who measures them together [those of this process's job]
    """
    device = model.flat.device

    def measure(window):
        """The summed loss of a window, and how many targets it counted."""
        tokens, targets = (to_device(x, device) for x in window)
        starts = None if document_token is None else to_device(document_starts(window[0], document_token), device)
        with no_grad():
            loss, count = next_token(model, (tokens, targets), Context(document_starts=starts))
        return loss.item() * count.item(), count.item()

    found = dealt(measure, windows(tokens, model.config.block_size, batch_size, blocks), ranks)
    losses, counts = np.transpose(found).tolist()
    return sum(losses) / max(sum(counts), 1)


class Validation:
    """What a training run measures at its evaluations: the loss on each of the texts, {source: (weight, tokens)}, in
    windows as the batches have. Called with a model it returns the mean by weight, and {source: loss}.

    It measures a part of each text, the same one each time, of about config.curve_tokens: windows drawn by the seed
    from the whole text, because its places differ more than models do. `whole` measures all, at the end of the run.
    """

    def __init__(self, texts: dict, batches: BatchStream, config: TrainConfig):
        self.texts, self.batches = texts, batches
        self.blocks = {
            name: part_of(len(tokens), batches.block_size, config, name) for name, (_, tokens) in texts.items()
        }
        targets = {name: len(tokens) - 1 for name, (_, tokens) in texts.items()}
        parts = {name: len(blocks) * batches.block_size for name, blocks in self.blocks.items() if blocks is not None}
        if parts:
            measured, everything = sum((targets | parts).values()), sum(targets.values())
            print(f"curve   evaluations measure {measured:,} of {everything:,} validation tokens, the last one all")

    def __call__(self, model: Any) -> tuple[float, dict[str, float]]:
        return self.measure(model, self.blocks)

    def whole(self, model: Any) -> tuple[float, dict[str, float]]:
        return self.measure(model, dict.fromkeys(self.texts))

    def measure(self, model, blocks):
        size, eot = self.batches.batch_size, self.batches.document_token
        losses = {name: evaluate(model, tokens, size, eot, blocks[name]) for name, (_, tokens) in self.texts.items()}
        weights = {name: float(weight) for name, (weight, _) in self.texts.items()}
        return sum(weights[name] * losses[name] for name in losses) / sum(weights.values()), losses


def part_of(length, block_size, config, name):
    """The numbers of the windows that evaluations measure of a text of so many tokens; None for all of them."""
    count, wanted = (length - 1) // block_size, max(1, config.curve_tokens // block_size)
    if wanted >= count:
        return None
    return np.sort(random(config.seed, f"validation/{name}").permutation(count)[:wanted])


def baselines(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Cross-entropy on the validation tokens, in nats, of models that only count the training tokens.

    uniform  every token equally likely: ln V, where an untrained model starts
    unigram  P(b) = (n_b + 1) / (N + V)
    bigram   P(b | a) = (n_ab + P(b)) / (n_a + 1): counts of pairs, with the unigram as one more observation
    """
    count = np.bincount(train, minlength=vocab_size)
    unigram = (count + 1) / (len(train) + vocab_size)

    def pairs(tokens):
        return tokens[:-1].astype(np.int64) * vocab_size + tokens[1:]

    seen, times = np.unique(pairs(train), return_counts=True)
    wanted = pairs(validation)
    place = np.minimum(np.searchsorted(seen, wanted), len(seen) - 1)
    n_ab = np.where(seen[place] == wanted, times[place], 0)
    n_a = np.bincount(train[:-1], minlength=vocab_size)
    bigram = (n_ab + unigram[validation[1:]]) / (n_a[validation[:-1]] + 1)
    return {
        "uniform": float(np.log(vocab_size)),
        "unigram": float(-np.log(unigram[validation[1:]]).mean()),
        "bigram": float(-np.log(bigram).mean()),
    }
