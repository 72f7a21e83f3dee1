"""Remove evaluation texts from training texts, as for GPT-3: Brown et al. 2020, appendix C.

A 13-gram of words that also occurs in an evaluation file is cut out, with 200 characters on either side, which splits
the document into pieces without such 13-grams. Pieces of fewer than 200 characters are dropped, and so are documents of
more than 10 pieces. Words are lower-case and without punctuation (words.py), so differently formatted copies are found.
An evaluation text of fewer than 13 words has no 13-gram, and copies of it stay; `too_short` counts these.

The paper kept 13-grams that occur in more than 10 training documents (sayings, legal phrases). That needs an additional
pass over all the data, which is left out; so a common phrase of an evaluation is cut everywhere.
"""

import csv
import io
import json
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.cleaning.words import grams, hashes, places, words
from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.formats import FORMATS, bare_name, read_texts
from tinygrad_lm.curate.readers.record import require_library
from tinygrad_lm.errors import DataError

GRAM = 13  # words
MARGIN = 200  # characters on either side
SHORTEST = 200  # characters of a piece that is kept
PIECES = 10


class Contamination:
    """The 13-grams of evaluation texts. `decontaminate(text) -> (pieces, what was cut out)`.

    Takes 8 bytes per 13-gram, sorted, and 8 to 16 for a filter that saves most searches. A false match of hashes costs
    400 characters: with 10⁷ evaluation 13-grams, one in 2 · 10¹² training 13-grams.
    """

    def __init__(self, texts):
        self.rows = np.unique(np.concatenate([np.empty(0, np.uint64), *(_rows(normalise(text)) for text in texts)]))
        bits = max(16, len(self.rows).bit_length() + 3)
        self.shift = np.uint64(64 - bits)
        self.filter = np.zeros(2**bits, bool)  # whether any 13-gram begins with these bits
        self.filter[self.rows >> self.shift] = True

    def decontaminate(self, text):
        """(the clean pieces, (text,) if nothing is found; the passages that were cut out)"""
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
        """The word indices where 13-grams of evaluations begin."""
        rows = _rows(text)
        maybe = np.flatnonzero(self.filter[rows >> self.shift])
        if not len(maybe):
            return maybe
        rows = rows[maybe]
        return maybe[self.rows[np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)] == rows]


def _rows(text):
    return grams(hashes(words(text)), GRAM)


def _widened(text, a, b):
    """Widen by the margin, and to whole words: half a word might complete another 13-gram."""
    a, b = max(a - MARGIN, 0), min(b + MARGIN, len(text))
    while a > 0 and not text[a - 1].isspace():
        a -= 1
    while b < len(text) and not text[b].isspace():
        b += 1
    return a, b


def _union(spans):
    """The sorted spans, joined where they overlap."""
    joined = []
    for a, b in spans:
        if joined and a < joined[-1][1]:
            joined[-1] = (joined[-1][0], b)
        else:
            joined.append((a, b))
    return joined


def too_short(paths):
    """(number of texts in evaluation files with fewer than 13 words, number of texts)"""
    short = [len(words(normalise(text))) < GRAM for text in evaluation_texts(paths)]
    return sum(short), len(short)


def evaluation_texts(paths):
    """Yield the texts of evaluation files, compressed or not.

    In JSON, CSV and Parquet every string is a text, because each task has its own field names. Other files are read
    like training files; a file of unknown format is plain text.
    """
    for path in map(Path, paths):
        name = bare_name(path)
        read = next((read for suffixes, read in READERS.items() if name.endswith(suffixes)), None)
        if read:
            try:
                yield from read(path)
            except DataError:
                raise
            except (OSError, csv.Error, ValueError, RecursionError) as error:
                raise DataError(f"evaluation file {path}: {error}; repair it, or download it again") from None
        elif name.endswith(tuple(suffix for format in FORMATS.values() for suffix in format.suffixes)):
            yield from read_texts([path], damage=0)
        else:
            yield from read_texts([f"text:{path}"], damage=0)


@contextmanager
def _open(path):
    """Yield a file as text, without translated line ends. Raises DataError for damage."""
    with open_bytes(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        try:
            yield text
        except ValueError as error:
            raise DataError(
                f"evaluation file {path}: {stream.damage or error}; repair it, or download it again"
            ) from None
        if stream.damage:
            raise DataError(f"evaluation file {path}: {stream.damage}; download it again")
        text.detach()


def _cells(path, delimiter=","):
    with _open(path) as file:
        for row in csv.reader(file, delimiter=delimiter):
            yield from row


def _line(numbered):
    number, line = numbered
    try:
        return json.loads(line) if line.strip() else None
    except ValueError as error:
        raise ValueError(f"line {number:,}: expected JSON ({error.msg} at column {error.colno})") from None


def _json(path):
    with _open(path) as file:
        yield from strings([json.load(file)])


def _json_lines(path):
    with _open(path) as file:
        yield from strings(map(_line, enumerate(file, start=1)))


def _parquet(path):
    require_library("pyarrow", "a Parquet file")
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(256, use_threads=False):
            yield from strings(batch.to_pylist())


def strings(values):
    """Yield all strings in nested lists and objects."""
    for value in values:
        stack = [value]
        while stack:
            value = stack.pop()
            if isinstance(value, str):
                yield value
            elif isinstance(value, (list, dict)):
                stack += value.values() if isinstance(value, dict) else value


READERS = {
    (".json",): _json,
    (".jsonl", ".ndjson"): _json_lines,
    (".csv",): _cells,
    (".tsv",): partial(_cells, delimiter="\t"),
    (".parquet",): _parquet,
}
