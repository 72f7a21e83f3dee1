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
    """A place where a record cannot be read, and why."""

    id: str
    reason: str
