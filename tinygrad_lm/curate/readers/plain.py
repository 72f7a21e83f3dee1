"""Plain text: a file is a document; a file of more than 1 MiB is several, split at an empty line or a line end.

With a separator, such as the <|endoftext|> between the stories of TinyStories, documents end where it stands.
"""

from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import LARGEST_RECORD, Damaged, Record

PIECE = 2**20  # bytes; many are in memory at once
BLOCK = 2**16


def text_records(path, separator=None):
    """Yield the bytes of a file's documents; without a separator, those of `plain_records`."""
    return plain_records(path) if separator is None else separated_records(path, separator.encode())


def separated_records(path, separator):
    """Yield the bytes between separators, without blank ones. What follows damage is skipped up to the next one."""
    name, number, piece, skip = Path(path).name, 0, bytearray(), False
    with open_bytes(path) as stream:
        while (block := stream.read1(BLOCK)) or stream.damage:
            start = max(0, len(piece) - len(separator) + 1)
            piece += block
            while (end := piece.find(separator, start)) >= 0:
                if not skip and piece[:end].strip():
                    number += 1
                    yield Record(f"{name}#{number}", bytes(piece[:end]))
                del piece[: end + len(separator)]
                start, skip = 0, False
            if not skip and len(piece) > LARGEST_RECORD:
                number, skip = number + 1, True
                reason = f"more than {LARGEST_RECORD:,} bytes without a separator"
                yield Damaged(f"{name}#{number}", reason, stream.part(len(piece)))
            if not block and stream.damage:
                number, skip, damage, lost = number + 1, True, stream.damage, stream.resume()
                yield Damaged(f"{name}#{number}", damage, lost)
                if stream.damage:
                    return
            if skip:
                del piece[: -len(separator)]
        if not skip and piece.strip():
            yield Record(f"{name}#{number + 1}", bytes(piece))


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
    """Decode UTF-8 bytes, None for none; line ends stay unchanged."""
    if content is None:
        return None
    try:
        return str(content, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start:,} of {len(content):,} "
            f"({error.reason})"
        ) from None
