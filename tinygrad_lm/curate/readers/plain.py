"""Plain text: a file is a document; one of more than 1 MiB is several, cut at an empty line or after a line."""

from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import Damaged, Record

PIECE = 2**20  # bytes; many are under way at once


def plain_records(path, most=None):
    """The bytes of a file, compressed or not, in pieces of at most so many [PIECE]."""
    name, number, rest, most = Path(path).name, 1, b"", most or PIECE
    with open_bytes(path) as stream:
        while (block := rest + stream.read(most - len(rest))) or stream.damage:
            goes_on = len(block) == most and stream.peek(1)
            if stream.damage and not goes_on:
                damage, lost = stream.damage, stream.resume()
                yield Damaged(f"{name}#{number}", damage, lost)
                if stream.damage:
                    return
                stream.readline(most)  # the end of a line, whose beginning was lost
                rest = b""
            else:
                cut = _cut(block) if goes_on else len(block)
                yield Record(f"{name}#{number}", block[:cut])
                rest = block[cut:]
            number += 1


def _cut(block):
    """Where to part a block: after an empty line in its second half, else a line, else before a character of UTF-8."""
    if (empty := block.rfind(b"\n\n", len(block) // 2)) >= 0:
        return empty + 2
    return block.rfind(b"\n") + 1 or next(i for i in range(len(block) - 1, 0, -1) if block[i] & 0xC0 != 0x80)


def plain_text(content):
    """The characters of UTF-8 bytes, line ends as they are."""
    try:
        return str(content, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start:,} of {len(content):,} "
            f"({error.reason})"
        ) from None
