"""The formats of raw text. Each has two functions, because only reading must be sequential.

read_records(path)     yields the Records of a file in bounded memory, or a Damaged in place of one.
                       Raises DataError for a file that is missing, empty or of another format.
extract_text(content)  the text of a record, None if it has none (a picture, an empty page); many workers run it.
                       Raises ValueError for a damaged record.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from glob import glob
from pathlib import Path

from tinygrad_lm.curate.readers import gutenberg, html, json_lines, parquet, plain, warc, wikipedia, wikitext
from tinygrad_lm.curate.readers.compression import MAGIC
from tinygrad_lm.curate.readers.record import ENOUGH, Damaged, too_damaged
from tinygrad_lm.errors import ConfigError, DataError

SHOWN_RECORDS = 5  # damaged records of a file that are printed


@dataclass(frozen=True)
class Format:
    """A format. suffixes: of its files, without those of compression; options: more arguments of read_records"""

    name: str
    suffixes: tuple
    read_records: Callable
    extract_text: Callable
    options: tuple = ()


FORMATS = {
    format.name: format
    for format in [
        Format("text", (".txt",), plain.text_records, plain.plain_text, ("separator",)),
        Format("jsonl", (".jsonl", ".ndjson", ".json"), json_lines.json_records, json_lines.json_text, ("field",)),
        Format("parquet", (".parquet",), parquet.parquet_records, plain.plain_text, ("field",)),
        Format("wet", (".wet",), partial(warc.warc_records, kind="conversion"), plain.plain_text),
        Format("warc", (".warc",), html.page_records, html.page_text),
        Format("wikipedia", (".xml",), wikipedia.article_records, wikitext.article_text),
        Format("gutenberg", (), gutenberg.book_records, gutenberg.book_text),  # .txt is plain text
    ]
}


def format_of(path, name=None, **options):
    """The Format of this name; without a name, by the file's suffix. Raises DataError if unknown.

    options: {name: value or None}, of those in Format.options; one that the format lacks is an error
    """
    if name is None:
        file = bare_name(path)
        name = next((f.name for f in FORMATS.values() if f.suffixes and file.endswith(f.suffixes)), None)
    if name not in FORMATS:
        found = f"format {name!r} is unknown" if name else "its name does not imply its format"
        raise DataError(
            f"data file {path}: {found}; expected one of {', '.join(FORMATS)}, as `format` in a mixture file or "
            f"before the path on a command line: FORMAT:{path}"
        )
    format, given = FORMATS[name], {key: value for key, value in options.items() if value is not None}
    if wrong := [key for key in given if key not in format.options]:
        able = ", ".join(other.name for other in FORMATS.values() if wrong[0] in other.options)
        raise DataError(f"data file {path}: {wrong[0]} is for the formats {able}, found {name}; leave it out")
    return replace(format, read_records=partial(format.read_records, **given)) if given else format


def bare_name(path):
    """A file's name in lower case, without the suffix of compression, and without the part of a dump of Wikimedia: for
    enwiki-20240201-pages-articles1.xml-p1p41242.bz2 it ends in .xml."""
    file = Path(path).name.lower()
    for suffix in MAGIC:
        file = file.removesuffix(suffix)
    return re.sub(r"-p\d+p\d+$", "", file)


def match_files(pattern, folder="."):
    """The files that match a pattern such as "crawl/**/*.wet.gz", sorted, as paths relative to the folder."""
    if Path(folder, pattern).is_file():  # its name may contain brackets
        return [pattern]
    return sorted(name for name in glob(pattern, root_dir=folder, recursive=True) if Path(folder, name).is_file())


def files_of(patterns):
    """Yield (path, name of its format or None) of all files that a command line names.

    patterns: as in match_files, or with a format, as "gutenberg:books/*.txt"
    """
    for pattern in map(str, patterns):
        name, _, rest = pattern.partition(":")
        name, pattern = (name, rest) if name in FORMATS else (None, pattern)
        yield from ((path, name) for path in match_files(pattern) or [pattern])


def add_options(parser):
    """Declare the options of a mixture file's source that say how files are read besides their format."""
    parser.add_argument("--field", metavar="NAME", help="of JSON lines and Parquet: the field with the text [text]")
    parser.add_argument("--separator", metavar="TEXT", help="of plain text: what parts the documents of a file")


def options_of(args, patterns):
    """{name: value} of the options that were given. DataError if one is for none of the files."""
    options = {name: getattr(args, name) for name in ("field", "separator") if getattr(args, name) is not None}
    files = list(files_of(patterns))
    for name, value in options.items():
        if not value:
            raise ConfigError(f"--{name}: expected some text, found ''")
        if not any(name in format_of(path, format).options for path, format in files):
            format_of(*files[0], **{name: value})  # raises
    return options


def read_texts(patterns, damage=0.01, **options):
    """Yield the texts of files of any format. Damaged records are skipped, counted and reported on stderr.

    patterns: see files_of; options: see format_of, for the files whose format has them. Raises DataError if more than
    the share `damage` is damaged (`too_damaged`); for fewer than 100 records only if all are.
    """
    paths = []
    for path, name in files_of(patterns):
        known = {key: options[key] for key in format_of(path, name).options if key in options}
        paths.append((path, format_of(path, name, **known)))
    size = sum(Path(path).stat().st_size for path, _ in paths if Path(path).is_file())
    records, found, lost = 0, [], 0
    for path, format in paths:
        before = len(found)
        try:
            for record in format.read_records(path):
                records += 1
                text = record_text(record, format)
                if not isinstance(text, Damaged):
                    if text:
                        yield text
                    continue
                found.append(f"data file {path}: record {text.id}: {text.reason}")
                lost += text.lost
                if too_damaged(records, len(found), size, lost, damage, ended=False):
                    raise DataError(damaged_files_message(records, found, size, lost, damage))
        finally:
            for line in found[before : before + SHOWN_RECORDS]:
                print(f"damaged: {line}", file=sys.stderr)
            if more := len(found[before + SHOWN_RECORDS :]):
                print(f"damaged: data file {path}: {more:,} more", file=sys.stderr)
    if found and (len(found) == records or too_damaged(records, len(found), size, lost, damage, records >= ENOUGH)):
        raise DataError(damaged_files_message(records, found, size, lost, damage))


def damaged_files_message(records, found, size, lost, damage):
    """The message about too much damage."""
    hint = "download the files again" if lost else "are they of this kind? --field names what holds a record's text"
    return (
        f"{found[-1]}\n  {len(found):,} of {records:,} records are damaged, {lost:,} of {size:,} bytes lost, "
        f"expected at most {damage:.0%}\n  hint : {hint}"
    )


def record_text(record, format):
    """The text of a record, or a Damaged."""
    if isinstance(record, Damaged):
        return record
    try:
        return format.extract_text(record.content)
    except ValueError as error:
        return Damaged(record.id, str(error))
