"""The formats that raw text comes in. Each is two functions, for reading is one after the other and the rest is not.

records(path)  yields what lies in a file, one Record after the other, in bounded memory; or a Damaged in its place
text(content)  the text of one record, None where it has none (a redirect, a picture); run by many workers at once
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lm.curate import plain
from tinygrad_lm.errors import DataError


@dataclass(frozen=True)
class Format:
    name: str
    suffixes: tuple
    records: Callable
    text: Callable


FORMATS = {
    format.name: format
    for format in [
        Format("text", (".txt",), plain.records, str),
    ]
}


def format_of(path, name=None):
    """The Format of this name; without one, of the file's. Raises DataError where that does not tell it."""
    if name is None:
        file = Path(path).name.lower()
        name = next((f.name for f in FORMATS.values() if file.endswith(f.suffixes)), None)
    if name not in FORMATS:
        raise DataError(f"{path}: its format is not known; expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def texts(paths):
    """The texts of files of any format. Raises DataError at the first damaged record."""
    for path in paths:
        format = format_of(path)
        for record in format.records(path):
            text = format.text(record.content)
            if text:
                yield text
