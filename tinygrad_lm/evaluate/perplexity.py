"""How well a model predicts a running text."""

import math
from dataclasses import replace
from io import StringIO
from itertools import islice

from tinygrad_lm.data.corpus import read_text
from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate.report import exponential, mean


def read(path):
    text = read_text(path)
    if not text.strip():
        raise DataError(f"data file {path}: expected text, found white space only")
    return text


def run(evaluation, text):
    """Nats a token, perplexity a token and a word, bits a byte, in windows that slide on by the evaluation's stride.

    The text starts from the end-of-text token; where the tokenizer has none, its first token is given and only the
    others are scored. Words are what white space parts, and each line end is one, as WikiText counts (its <eos>). The
    standard errors take the tokens for independent. `limit` counts lines.
    """
    if evaluation.limit:
        # As reading.lines cuts: "\n" alone ends a line.
        text = "".join(islice(StringIO(text, newline="\n"), evaluation.limit))
    ids = evaluation.tokenizer.encode(text)
    given, scored = (ids[:1], ids[1:]) if evaluation.start is None else ([evaluation.start], ids)
    if not len(scored):
        raise DataError("text: it has no token to be scored; give a longer one")
    (found,) = evaluation.score_ids([(given, scored)], "text")
    nats = mean("nats_per_token", -found.logprobs)
    n_bytes, words = len(text.encode()), len(text.split()) + text.count("\n")
    return [
        nats,
        exponential("perplexity", nats),
        exponential("word_perplexity", times(nats, "nats_per_word", nats.n / words)),
        times(nats, "bits_per_byte", nats.n / n_bytes / math.log(2)),
    ]


def times(result, metric, factor):
    error = None if result.error is None else factor * result.error
    return replace(result, metric=metric, value=factor * result.value, error=error)
