"""What a reader finds: records, and places where there should have been one."""

from dataclasses import dataclass

LARGEST = 64 * 2**20  # bytes of a record; a longer one is damage, or a way to exhaust the memory, and is not read


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


ENOUGH = 100  # records from which on the share of damaged ones means something


def too_much(records, damaged, size, lost, allowed):
    """Is more than the allowed share of the records damaged, or of the files' bytes lost?"""
    return damaged > allowed * records or lost > allowed * size
