"""What a reader finds: records, and places where there should have been one."""

from dataclasses import dataclass
from importlib import import_module

from tinygrad_lm.errors import DataError

LARGEST_RECORD = (
    64 * 2**20
)  # bytes of a record; a longer one is damage, or a way to exhaust the memory, and is not read


@dataclass(frozen=True, slots=True)
class Record:
    """One document as it lies in its file. id: the file's name and the place in it, such as "crawl.warc.gz#12"."""

    id: str
    content: object  # str or bytes: what the format's `text` makes a text of


@dataclass(frozen=True, slots=True)
class Damaged:
    """A place where a record cannot be read, and why.

    lost: bytes of the file that were passed over with it. How much is missing of a file that was cut short, nobody
    knows; so it is as many as the file has.
    """

    id: str
    reason: str
    lost: int = 0


CLEAR = 10  # damaged records, fewer of which may be chance
ENOUGH = 100  # records from which on the share of damaged ones means something


def too_damaged(records, damaged, size, lost, allowed, ended):
    """Is more than the allowed share of the records damaged, or of the files' bytes (`size` of them) lost?

    Before the end only a clear excess of damaged records counts: of n, CLEAR or more and more than np + 3 √(np(1 − p)),
    three standard deviations above what the share p itself would give. Where none is allowed the first one counts.
    """
    if lost > allowed * size or (damaged and not allowed):
        return True
    expected = allowed * records
    if ended:
        return damaged > expected
    return damaged >= CLEAR and damaged > expected + 3 * (expected * (1 - allowed)) ** 0.5


def require_library(library, use):
    """Raises DataError, with the way to get it, where a library is missing. use: what asks for it."""
    try:
        import_module(library)
    except ImportError as error:
        raise DataError(
            f"{use} needs the library {library}, which is missing; get it with: pip install 'tinygrad-lm[data]'"
        ) from error
