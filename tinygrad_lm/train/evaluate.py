"""How good a model is on text it was not trained on, and how good simple counting is on the same text."""

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.data.loader import document_starts, windows
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.nn.context import Context
from tinygrad_lm.threads import parallel
from tinygrad_lm.train.objective import next_token


def evaluate(model, tokens, batch_size, document_token=None):
    """Mean cross-entropy in nats over every token of a text but the first, in windows of the model's context.

    Deterministic: no sampling, no dropout. Each window starts without context, so the first tokens of a window are
    harder; a prefix of the text would be quicker and wrong, for parts of a text differ more than models do.
    document_token: end-of-text, where the model was trained with attention inside documents alone.
    """
    device = model.flat.device

    def measure(window):
        """The summed loss of a window, and how many targets it counted."""
        tokens, targets = (to_device(x, device) for x in window)
        starts = None if document_token is None else to_device(document_starts(window[0], document_token), device)
        with no_grad():
            loss, count = next_token(model, (tokens, targets), Context(document_starts=starts))
        return loss.item() * count.item(), count.item()

    found = parallel(measure, windows(tokens, model.config.block_size, batch_size))
    losses, counts = zip(*found, strict=True)
    return sum(losses) / max(sum(counts), 1)


def evaluate_sources(model, validation, batch_size, document_token=None):
    """Evaluate on each of several texts, {source: (weight, tokens)}. Returns the mean by weight, and {source: loss}."""
    losses = {name: evaluate(model, tokens, batch_size, document_token) for name, (_, tokens) in validation.items()}
    weights = {name: float(weight) for name, (weight, _) in validation.items()}
    return sum(weights[name] * losses[name] for name in losses) / sum(weights.values()), losses


def validation_of(validation, batches):
    """What a training run measures at its evaluations: a function of the model, `evaluate_sources` on these texts in
    windows as the batches have."""
    batch_size, document_token = batches.batch_size, batches.document_token
    return lambda model: evaluate_sources(model, validation, batch_size, document_token)


def baselines(train, validation, vocab_size):
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
