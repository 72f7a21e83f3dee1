"""Every format: how to write a file of it, and what its reader finds."""

from functools import cache
from pathlib import Path

import raw_books
import raw_files

from tinygrad_lm.curate.readers.formats import format_of
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.errors import DataError


def one_text(path, documents):
    raw_files.write_text(path, "\n".join(documents))


def one_book(path, documents):
    raw_files.write_text(path, raw_books.book("\n\n".join(documents)))


def small_groups(path, documents):
    raw_files.write_parquet(path, documents, rows=2)


# {file name: (format or None, function that writes it)}
FILES = {
    "a.txt": (None, one_text),
    "a.txt.gz": (None, one_text),
    "book.txt": ("gutenberg", one_book),
    "book.txt.bz2": ("gutenberg", one_book),
    "a.jsonl": (None, raw_files.write_jsonl),
    "a.jsonl.gz": (None, raw_files.write_jsonl),
    "a.json.gz": (None, raw_files.write_jsonl),
    "a.jsonl.zst": (None, raw_files.write_jsonl),
    "a.jsonl.bz2": (None, raw_files.write_jsonl),
    "a.parquet": (None, small_groups),
    "a.warc.wet": (None, raw_files.write_wet),
    "a.warc.wet.gz": (None, raw_files.write_wet),
    "a.warc": (None, raw_files.write_warc),
    "a.warc.gz": (None, raw_files.write_warc),
    "a.xml": (None, raw_files.write_wikipedia),
    "a.xml.bz2": (None, raw_files.write_wikipedia),
    "a.xml.gz": (None, raw_files.write_wikipedia),
}


@cache  # thousands of truncated files have the same first records
def extract_once(format, content):
    return format.extract_text(content)


def write_file(folder, name, documents):
    path = Path(folder, name)
    FILES[name][1](path, documents)
    return path


def read_file(path):
    """(texts, damaged records, the DataError that ended it or None). Any other exception is a bug of the reader."""
    texts, damaged = [], []
    try:
        format = format_of(path, FILES.get(path.name, (None,))[0])
        for record in format.read_records(path):
            if isinstance(record, Damaged):
                damaged.append(record)
                continue
            try:
                text = extract_once(format, record.content)
            except ValueError as error:
                damaged.append(Damaged(record.id, str(error)))
            else:
                texts += [text] if text is not None else []
    except DataError as error:
        return texts, damaged, error
    return texts, damaged, None


def as_read(name, documents):
    """The texts of an undamaged file with these documents."""
    if FILES[name][1] is one_text:
        return ["\n".join(documents)]
    if FILES[name][1] is one_book:
        return ["\n\n".join(documents)]
    if FILES[name][1] is raw_files.write_wikipedia:
        return [f"Article {i}\n\n{text}" for i, text in enumerate(documents)]
    return list(documents)
