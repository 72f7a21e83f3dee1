"""Score completions: the log-probability of each of their tokens. All likelihood tasks share this computation."""

from dataclasses import dataclass

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


def started(bos, context, room):
    """The context after bos. One that is too long for `room` tokens beside it loses its own beginning."""
    if room < 1:  # the completion fills the window: its first token is predicted from the last one before it
        return np.append(bos, context)[-1:]
    return np.append(bos, context[max(0, len(context) - room) :])


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
    not see. Each thread of `workers` holds the logits of at most LOGITS // vocab_size tokens of its batch at once.

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
            targets = np.concatenate([sequences[i][first:stop] for i, _, first, stop in batch])
            rows = np.concatenate([np.full(stop - first, row) for row, (*_, first, stop) in enumerate(batch)])
            times = np.concatenate([np.arange(first, stop) - 1 - begin for _, begin, first, stop in batch])
            logprobs, greedy = np.empty(len(targets)), np.empty(len(targets), bool)
            with no_grad():
                features = model.features(to_device(tokens, device))  # (B, T, C)
                for start in range(0, len(targets), chunk):  # of all rows together: each call reads the whole head
                    here = slice(start, start + chunk)
                    picked = features[to_device(rows[here], device), to_device(times[here], device)]
                    found = token_scores(model.logits(picked).data, to_device(targets[here], device))
                    logprobs[here], greedy[here] = found
            done = 0
            for i, _, first, stop in batch:
                place = slice(first - len(sequences[i]) + len(scores[i].logprobs), None)  # in the completion
                scores[i].logprobs[place][: stop - first] = logprobs[done : done + stop - first]
                scores[i].greedy[place][: stop - first] = greedy[done : done + stop - first]
                done += stop - first
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
