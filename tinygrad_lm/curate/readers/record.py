"""What all readers share: records, damaged places, how much damage is too much, and optional libraries."""

from dataclasses import dataclass
from importlib import import_module

from tinygrad_lm.errors import DataError

LARGEST_RECORD = 64 * 2**20  # bytes; a longer record counts as damaged and is not read, to protect the memory


@dataclass(frozen=True, slots=True)
class Record:
    """One document as stored in its file. id: the file's name and the place in it, such as crawl.warc.gz#12"""

    id: str
    content: object  # the argument of the format's extract_text: str, bytes, or a tuple


@dataclass(frozen=True, slots=True)
class Damaged:
    """A place where a record cannot be read, and why.

    lost: skipped bytes of the file. It is unknown how much is missing from a truncated file; so its size is counted.
    """

    id: str
    reason: str
    lost: int = 0


CLEAR = 10  # damaged records; fewer may be chance
ENOUGH = 100  # records; for fewer the share of damage is not meaningful


def too_damaged(records, damaged, size, lost, allowed, ended):
    """Whether more than the allowed share of the records is damaged, or of the files' bytes (`size`) lost.

    Before the end only a clear excess of damaged records counts: of n, at least CLEAR and more than
    np + 3 √(np(1 − p)), three standard deviations above the expectation for the share p. If p is 0, one is enough.
    """
    if lost > allowed * size or (damaged and not allowed):
        return True
    expected = allowed * records
    if ended:
        return damaged > expected
    return damaged >= CLEAR and damaged > expected + 3 * (expected * (1 - allowed)) ** 0.5


def require_library(library, use):
    """Raise DataError, with the command to install it, if a library is missing. use: what needs it"""
    try:
        import_module(library)
    except ImportError as error:
        raise DataError(
            f"{use} needs the library {library}, which is not installed; run: pip install 'tinygrad-lm[data]'"
        ) from error
