"""Evaluation texts out of training texts, as GPT-3 did it: Brown et al. 2020, appendix C.

A row of 13 words that is in an evaluation file too is cut out, with 200 characters on either side; the document falls
in pieces, none of which has such a row. Pieces of fewer than 200 characters are dropped, and documents of more than 10
pieces whole. Words are lower-case and without punctuation (words.py), so a copy that is set otherwise is found. An
evaluation text of fewer than 13 words has no such row, and copies of it stay; `too_short` counts these.

The paper kept rows that more than 10 training documents have (sayings, legal phrases). To know them takes a pass over
all the data before this one; it is left out, so a common phrase of an evaluation is cut wherever it is.
"""

import csv
import gzip
import json
import zlib
from pathlib import Path

import numpy as np

from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.cleaning.words import grams, hashes, places, words
from tinygrad_lm.curate.readers.formats import FORMATS, read_texts
from tinygrad_lm.errors import DataError

GRAM = 13  # words
MARGIN = 200  # characters on either side
SHORTEST = 200  # characters of a piece
PIECES = 10


class Contamination:
    """Which rows of 13 words the evaluation texts have. `decontaminate(text) -> (pieces, what was cut)`.

    8 bytes a row, in order, and 8 to 16 to pass most others by without a search. A row of training text that is taken
    for one of these by chance costs 400 characters: with 10⁷ rows of evaluations, one in 2 · 10¹² does.
    """

    def __init__(self, texts):
        self.rows = np.unique(np.concatenate([np.empty(0, np.uint64), *(_rows(normalise(text)) for text in texts)]))
        bits = max(16, len(self.rows).bit_length() + 3)
        self.shift = np.uint64(64 - bits)
        self.filter = np.zeros(2**bits, bool)  # do any rows begin with these bits?
        self.filter[self.rows >> self.shift] = True

    def decontaminate(self, text):
        """(the pieces that may be trained on: (text,) if nothing is found, what was cut out)"""
        found = self._found(text)
        if not len(found):
            return (text,), ()
        spans = places(text)
        cuts = _union(_widened(text, spans[i][0], spans[i + GRAM - 1][1]) for i in found)
        edges = [0, *(edge for cut in cuts for edge in cut), len(text)]
        pieces = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True) if text[a:b].strip()]
        kept = tuple(piece for piece in pieces if len(piece) >= SHORTEST) if len(pieces) <= PIECES else ()
        return kept, tuple(text[a:b] for a, b in cuts)

    def _found(self, text):
        """The numbers of the words where rows begin that are in evaluations."""
        rows = _rows(text)
        maybe = np.flatnonzero(self.filter[rows >> self.shift])
        if not len(maybe):
            return maybe
        rows = rows[maybe]
        return maybe[self.rows[np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)] == rows]


def _rows(text):
    return grams(hashes(words(text)), GRAM)


def _widened(text, a, b):
    """By the margin, and on to whole words: half a word might complete another row of an evaluation."""
    a, b = max(a - MARGIN, 0), min(b + MARGIN, len(text))
    while a > 0 and not text[a - 1].isspace():
        a -= 1
    while b < len(text) and not text[b].isspace():
        b += 1
    return a, b


def _union(spans):
    """The spans, in order, joined where they overlap."""
    joined = []
    for a, b in spans:
        if joined and a < joined[-1][1]:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return joined


def too_short(paths):
    """(how many texts of evaluation files have fewer than 13 words, how many texts there are)"""
    short = [len(words(normalise(text))) < GRAM for text in evaluation_texts(paths)]
    return sum(short), len(short)


def evaluation_texts(paths):
    """The texts of evaluation files. Of JSON and CSV each string is one, whatever its name, for every task has its own;
    other files are read as those of training are, and those of no known format as plain text."""
    for path in map(Path, paths):
        name = path.name.lower().removesuffix(".gz")
        if name.endswith((".json", ".jsonl", ".csv")):
            try:
                yield from _cells(path) if name.endswith(".csv") else _strings(path)
            except (OSError, EOFError, zlib.error, csv.Error, ValueError, RecursionError) as error:
                raise DataError(f"evaluation file {path}: {error}; mend it, or fetch it again") from None
        elif name.endswith(tuple(suffix for format in FORMATS.values() for suffix in format.suffixes)):
            yield from read_texts([path], damage=0)
        else:
            yield from read_texts([f"text:{path}"], damage=0)


def _open(path):
    return (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8", newline="")


def _cells(path):
    with _open(path) as file:
        for row in csv.reader(file):
            yield from row


def _line(numbered):
    number, line = numbered
    try:
        return json.loads(line) if line.strip() else None
    except ValueError as error:
        raise ValueError(f"line {number:,}: expected JSON ({error.msg} at column {error.colno})") from None


def _strings(path):
    """All strings of a JSON file, or of one with an object a line."""
    with _open(path) as file:
        if path.name.lower().removesuffix(".gz").endswith(".json"):
            values = [json.load(file)]
        else:
            values = map(_line, enumerate(file, start=1))
        for value in values:
            stack = [value]
            while stack:
                value = stack.pop()
                if isinstance(value, str):
                    yield value
                elif isinstance(value, (list, dict)):
                    stack += value.values() if isinstance(value, dict) else value
