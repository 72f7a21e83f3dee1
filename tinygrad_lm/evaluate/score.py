"""Score completions: the log-probability of each of their tokens. All likelihood tasks share this computation."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinygrad_lm.backend import array_module, to_device, wide
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError, DivergedError, TokenError, check_ranges
from tinygrad_lm.programs import progress_bar
from tinygrad_lm.threads import parallel

LOGITS = 2**24  # that are computed at once; a window of 8,192 tokens has 24 times as many over 49,152 words


@dataclass(frozen=True)
class Score:
    """For each token of a completion: log P(token | the tokens before it) in nats; whether it is the most likely."""

    logprobs: np.ndarray  # (n,) float64
    greedy: np.ndarray  # (n,) bool

    @property
    def total(self):
        """log P(completion | context) in nats."""
        return float(self.logprobs.sum())


def encode_pair(tokenizer, context, completion):
    """Two texts -> two arrays of ids. White space at the end of the context is moved to the completion.

    Both are encoded as one text, as in training, and cut after the tokens of the context alone. Most tokens begin with
    their space, so a word keeps it: "a" + " word", not "a " + "word". If a token lies across the cut, the two texts
    are encoded separately.
    """
    end = len(context.rstrip())
    start, whole = tokenizer.encode(context[:end]), tokenizer.encode(context + completion)
    if np.array_equal(whole[: len(start)], start):
        return start, whole[len(start) :]
    return start, tokenizer.encode(context[end:] + completion)


def spans(start, end, window, stride):
    """Windows over a sequence of tokens that predict each of start … end − 1 exactly once.

    Yields (begin, first, stop): the model reads begin … stop − 2, at most `window` tokens, to predict first … stop − 1.
    The first window is as full as possible; each later one ends up to `stride` tokens further and starts as early as
    possible, so every prediction outside the first window sees at least window − stride + 1 tokens.
    """
    while start < end:
        stop = min(end, max(start + stride, window + 1))
        yield max(0, stop - 1 - window), start, stop
        start = stop


def padded_batches(jobs, most):
    """Split jobs (…, begin, first, stop), sorted longest first, into lists of at most `most` tokens when padded."""
    batch = []
    for job in jobs:
        _, begin, _, stop = (batch or [job])[0]
        if batch and (len(batch) + 1) * (stop - 1 - begin) > most:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def score(model, pairs, eot=None, stride=None, batch_size=1, title="scoring"):
    """A Score for each (context ids, completion ids).

    A context that is too long for the window loses its beginning. A completion that is too long is scored window by
    window (see `spans`; stride None: the window). An empty context means the start of a text, `eot`. Windows of similar
    length share a batch of at most batch_size · window tokens and are padded on the right, which a causal model does
    not see. Each thread of `workers` holds the logits of at most LOGITS // vocab_size tokens.

    Raises ConfigError for an empty completion, for an empty context without eot and for a stride outside the window;
    TokenError for ids outside the vocabulary; DivergedError for logits that are not finite.
    """
    window, device = model.config.block_size, model.flat.device
    chunk = max(1, LOGITS // model.config.vocab_size)
    stride = window if stride is None else stride
    check_ranges("score", {"stride": (stride, f"from 1 to {window}, the model's window", 1 <= stride <= window)})
    sequences, scores, jobs = [], [], []
    for i, (context, completion) in enumerate(pairs):
        n = len(completion)
        if not n:
            raise ConfigError(f"score: completion {i} is empty; it must have at least one token")
        if not len(context) and eot is None:
            raise ConfigError(
                f"score: context {i} is empty, and the tokenizer has no end-of-text token to start from; "
                "give a context of at least one token"
            )
        sequence = np.concatenate([context if len(context) else [eot], completion]).astype(np.int64)
        if sequence.min() < 0 or sequence.max() >= model.config.vocab_size:
            wrong = sequence[(sequence < 0) | (sequence >= model.config.vocab_size)]
            raise TokenError(
                f"score: token id {wrong[0]} is outside the model's vocabulary of {model.config.vocab_size}"
            )
        sequences.append(sequence)
        scores.append(Score(np.empty(n), np.empty(n, bool)))
        jobs += [(i, *span) for span in spans(len(sequence) - n, len(sequence), window, stride)]
    jobs.sort(key=lambda job: job[1] - job[3])  # longest first, so that running out of memory shows at once

    with progress_bar(total=len(jobs), unit="window", desc=title, leave=False) as bar:

        def score_batch(batch):
            _, begin, _, stop = batch[0]
            tokens = np.zeros((len(batch), stop - 1 - begin), np.int64)
            for row, (i, begin, _, stop) in zip(tokens, batch, strict=True):
                row[: stop - 1 - begin] = sequences[i][begin : stop - 1]
            with no_grad():
                features = model.features(to_device(tokens, device))  # (B, T, C)
                for row, (i, begin, *scored) in zip(features, batch, strict=True):
                    for first, stop in pairwise([*range(*scored, chunk), scored[1]]):
                        n, whole = len(scores[i].logprobs), len(sequences[i])
                        place = slice(first - whole + n, stop - whole + n)  # of these targets in the completion
                        logits = model.logits(row[first - 1 - begin : stop - 1 - begin]).data
                        targets = to_device(sequences[i][first:stop], device)
                        scores[i].logprobs[place], scores[i].greedy[place] = token_scores(logits, targets)
            bar.update(len(batch))

        parallel(score_batch, padded_batches(jobs, batch_size * window))
    if not all(np.isfinite(score.logprobs).all() for score in scores):
        raise DivergedError("score: the model's logits are not finite; its weights may be damaged")
    return scores


def token_scores(logits, targets):
    """(n, V), (n,) -> NumPy arrays (n,): float64 log-probability of each target; whether its logit is the greatest."""
    xp = array_module(logits)
    z = logits.astype(wide(logits.dtype), copy=False)
    z = z - z.max(-1, keepdims=True)  # the shift cancels; it prevents overflow
    rows = xp.arange(len(z))
    logprobs = z[rows, targets] - xp.log(xp.exp(z).sum(-1, dtype=np.float64))
    return to_device(logprobs, "cpu"), to_device(z.argmax(-1) == targets, "cpu")
