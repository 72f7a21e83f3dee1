"""LAMBADA (Paperno et al. 2016): the last word of a passage, which only the whole passage gives away."""

import re
from pathlib import Path

from tinygrad_lm.evaluate.files import checked, expect, json_lines, lines
from tinygrad_lm.evaluate.report import exponential, mean


def read(path):
    """[(context, " word")] of a .jsonl file with {"text": …} lines, or of a plain one with a passage a line."""
    if ".jsonl" in Path(path).suffixes:
        return json_lines(path, lambda record: split(*expect(record, text=str)))
    return checked(path, enumerate(lines(path), start=1), split)


def split(passage):
    """A passage before and from the white space in front of its last word."""
    found = re.fullmatch(r"(.*\S)(\s+\S+)\s*", passage, re.DOTALL)
    if not found:
        raise ValueError(f"expected a passage of at least two words, found {passage[:40]!r}")
    return found.groups()


def run(evaluation, passages):
    """acc             passages whose last word the model would write: each token of it is the likeliest
    perplexity      exp of the mean −log P(last word), a word
    last_token_acc  passages whose last token is the likeliest after all others: easier, and what GPT-2's paper counts
    """
    scores = evaluation.score(passages[: evaluation.limit], "lambada")
    return [
        mean("acc", [score.greedy.all() for score in scores]),
        exponential("perplexity", mean("nats_per_word", [-score.total for score in scores])),
        mean("last_token_acc", [score.greedy[-1] for score in scores]),
    ]
