"""Plain text: a file is a document; one of more than 64 MiB is several, cut after a line."""

from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.document import LARGEST, Damaged, Record


def records(path):
    """The bytes of a file, compressed or not."""
    name, number, rest = Path(path).name, 1, b""
    with open_bytes(path) as stream:
        while block := rest + stream.read(LARGEST - len(rest)):
            cut = len(block)
            if len(block) == LARGEST and stream.peek(1):
                # Without a line's end in all that, before a byte that begins a character of UTF-8.
                cut = block.rfind(b"\n") + 1 or next(i for i in range(cut - 1, 0, -1) if block[i] & 0xC0 != 0x80)
            if stream.damage:
                break
            yield Record(f"{name}#{number}", block[:cut])
            rest, number = block[cut:], number + 1
        if stream.damage:
            yield Damaged(f"{name}#{number}", stream.damage)


def text(content):
    """The characters of UTF-8 bytes, line ends as they are."""
    try:
        return str(content, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start:,} of {len(content):,} "
            f"({error.reason})"
        ) from None
