"""The formats that raw text comes in. Each is two functions, for reading is one after the other and the rest is not.

records(path)  yields what lies in a file, one Record after the other, in bounded memory; or a Damaged in its place.
               Raises DataError for a file that is missing, empty or of another format.
text(content)  the text of one record, None where it has none (a picture, an empty page); run by many workers at once.
               Raises ValueError where the record turns out to be damaged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from glob import glob
from pathlib import Path

from tinygrad_lm.curate.readers import gutenberg, html, json_lines, parquet, plain, warc, wikipedia, wikitext
from tinygrad_lm.curate.readers.compression import MAGIC
from tinygrad_lm.curate.readers.document import Damaged
from tinygrad_lm.errors import DataError


@dataclass(frozen=True)
class Format:
    """suffixes: of the files that are taken to be of this format; any of them may be compressed as well."""

    name: str
    suffixes: tuple
    records: Callable
    text: Callable


FORMATS = {
    format.name: format
    for format in [
        Format("text", (".txt",), plain.records, plain.text),
        Format("jsonl", (".jsonl", ".ndjson", ".json"), json_lines.records, json_lines.text),
        Format("parquet", (".parquet",), parquet.records, plain.text),
        Format("wet", (".wet",), partial(warc.records, kind="conversion"), plain.text),
        Format("warc", (".warc",), html.records, html.text),
        Format("wikipedia", (".xml",), wikipedia.records, wikitext.text),
        Format("gutenberg", (), gutenberg.records, gutenberg.text),  # its files are .txt, so it is asked for by name
    ]
}


def format_of(path, name=None):
    """The Format of this name; without one, of the file's. Raises DataError where that does not tell it."""
    if name is None:
        file = Path(path).name.lower()
        for suffix in MAGIC:
            file = file.removesuffix(suffix)
        name = next((f.name for f in FORMATS.values() if f.suffixes and file.endswith(f.suffixes)), None)
    if name not in FORMATS:
        found = f"format {name!r} is unknown" if name else "its name does not tell its format"
        raise DataError(
            f"data file {path}: {found}; expected one of {', '.join(FORMATS)}, as `format` in a mixture file, on a "
            f"command line in front of the path: text:{path}"
        )
    return FORMATS[name]


def texts(patterns):
    """The texts of files of any format. Raises DataError at the first damaged record.

    patterns: such as "crawl/*.wet.gz"; or "gutenberg:books/*.txt" with a format that the files' names do not tell.
    """
    for pattern in patterns:
        name, _, rest = str(pattern).partition(":")
        name, pattern = (name, rest) if name in FORMATS else (None, str(pattern))
        for path in sorted(glob(pattern)) or [pattern]:
            yield from texts_of(path, format_of(path, name))


def texts_of(path, format):
    for record in format.records(path):
        if isinstance(record, Damaged):
            raise DataError(f"data file {path}: record {record.id} is damaged: {record.reason}")
        try:
            text = format.text(record.content)
        except ValueError as error:
            raise DataError(f"data file {path}: record {record.id} is damaged: {error}") from None
        if text:
            yield text
