"""Plain text: a file is a document."""

from pathlib import Path

from tinygrad_lm.curate.document import Record
from tinygrad_lm.data.corpus import read_text


def records(path):
    yield Record(Path(path).name, read_text(path))
