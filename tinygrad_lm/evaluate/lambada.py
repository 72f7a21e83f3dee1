"""LAMBADA (Paperno et al. 2016): the last word of a passage, which can be guessed only from the whole passage."""

import re
from pathlib import Path

from tinygrad_lm.evaluate.files import convert_lines, expect, read_json_lines, read_lines
from tinygrad_lm.evaluate.report import exponential, mean


def read_lambada(path):
    """[(context, " word")] of a JSON lines file with {"text": …} lines, or of a plain one with one passage per line."""
    if {".jsonl", ".ndjson", ".json"} & set(Path(path).suffixes):
        return read_json_lines(path, lambda record: split_last_word(*expect(record, text=str)))
    return convert_lines(path, enumerate(read_lines(path), start=1), split_last_word)


def split_last_word(passage):
    """(context, " word"): the passage cut before the white space in front of its last word."""
    found = re.fullmatch(r"(.*\S)(\s+\S+)\s*", passage, re.DOTALL)
    if not found:
        raise ValueError(f"expected a passage of at least two words, found {passage[:40]!r}")
    return found.groups()


def evaluate_lambada(evaluator, passages):
    """acc             the share of passages whose last word greedy generation would write
    perplexity      exp of the mean −log P(last word), per word
    last_token_acc  the share whose last token is the most likely after all others: easier, and used by GPT-2's paper
    """
    scores = evaluator.score(passages[: evaluator.limit], "lambada")
    return [
        mean("acc", [score.greedy.all() for score in scores]),
        exponential("perplexity", mean("nats_per_word", [-score.total for score in scores])),
        mean("last_token_acc", [score.greedy[-1] for score in scores]),
    ]
