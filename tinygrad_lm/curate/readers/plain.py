"""Plain text: a file is a document; a file of more than 1 MiB is several, split at an empty line or a line end."""

from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import Damaged, Record

PIECE = 2**20  # bytes; many are in memory at once


def plain_records(path, most=None):
    """Yield the bytes of a file, compressed or not, in pieces of at most `most` bytes [PIECE]."""
    name, number, rest, most = Path(path).name, 1, b"", most or PIECE
    with open_bytes(path) as stream:
        while (block := rest + stream.read(most - len(rest))) or stream.damage:
            continues = len(block) == most and stream.peek(1)
            if stream.damage and not continues:
                damage, lost = stream.damage, stream.resume()
                yield Damaged(f"{name}#{number}", damage, lost)
                if stream.damage:
                    return
                stream.readline(most)  # skip the rest of a line whose beginning is lost
                rest = b""
            else:
                cut = _cut(block) if continues else len(block)
                yield Record(f"{name}#{number}", block[:cut])
                rest = block[cut:]
            number += 1


def _cut(block):
    """Where to split a block: after an empty line in its second half, else after a line, else between characters."""
    if (empty := block.rfind(b"\n\n", len(block) // 2)) >= 0:
        return empty + 2
    return block.rfind(b"\n") + 1 or next(i for i in range(len(block) - 1, 0, -1) if block[i] & 0xC0 != 0x80)


def plain_text(content):
    """Decode UTF-8 bytes; line ends stay unchanged."""
    try:
        return str(content, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start:,} of {len(content):,} "
            f"({error.reason})"
        ) from None
