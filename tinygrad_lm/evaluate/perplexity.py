"""Perplexity: how well a model predicts a running text."""

import math
from dataclasses import replace
from io import StringIO
from itertools import islice

from tinygrad_lm.data.corpus import read_text
from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate.report import exponential, mean


def read_running_text(path):
    text = read_text(path)
    if not text.strip():
        raise DataError(f"data file {path}: expected text, found only white space")
    return text


def evaluate_perplexity(evaluator, text):
    """Nats per token, perplexity per token and per word, bits per byte, with a sliding window.

    The text starts from the end-of-text token; if the tokenizer has none, the first token is given and only the others
    are scored. Words are separated by white space, and each line end is one more, as WikiText counts (its <eos>). The
    standard errors assume independent tokens. `limit` counts lines.
    """
    if evaluator.limit:
        # As in read_lines, only "\n" ends a line.
        text = "".join(islice(StringIO(text, newline="\n"), evaluator.limit))
    ids = evaluator.tokenizer.encode(text)
    given, scored = (ids[:1], ids[1:]) if evaluator.start is None else ([evaluator.start], ids)
    if not len(scored):
        raise DataError("text: it has no token to score; give a longer one")
    (found,) = evaluator.score_ids([(given, scored)], "text")
    nats = mean("nats_per_token", -found.logprobs)
    n_bytes, words = len(text.encode()), len(text.split()) + text.count("\n")
    return [
        nats,
        exponential("perplexity", nats),
        exponential("word_perplexity", scaled(nats, "nats_per_word", nats.n / words)),
        scaled(nats, "bits_per_byte", nats.n / n_bytes / math.log(2)),
    ]


def scaled(result, metric, factor):
    error = None if result.error is None else factor * result.error
    return replace(result, metric=metric, value=factor * result.value, error=error)
