"""Web archives (WARC, ISO 28500), in which CommonCrawl publishes pages as sent and, as WET files, their text.

A record is a header like HTTP's, an empty line, Content-Length bytes, and two empty lines. CommonCrawl makes each
record a separate gzip member. warcio parses the headers; its iterator over records is not used, because it accepts
truncated records. A file that is truncated between two records cannot be recognised.
"""

from io import BytesIO
from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import LARGEST_RECORD, Damaged, Record, require_library
from tinygrad_lm.errors import DataError

HEADER = 2**16  # bytes; longer headers count as damaged
END = b"\r\n\r\n"


def warc_records(path, kind):
    """Yield the blocks of the records of one kind as bytes: "conversion" in WET files, "response" in WARC files.

    After damage, continues with the next record that can be found.
    """
    require_library("warcio", "a WARC file")
    name, number = Path(path).name, 0
    with open_bytes(path) as stream:
        line = _first_line(stream)
        if not line.startswith(b"WARC/") and stream.damage is None:
            raise DataError(f"data file {path}: expected a WARC file, which begins with WARC/1.0, found {line[:40]!r}")
        while line or stream.damage:
            number += 1
            try:
                block = _block(line, stream, kind)
                if block is not None:
                    yield Record(f"{name}#{number}", block)
                line = _first_line(stream)
            except (ValueError, EOFError) as error:
                begin, damage, lost, ended = stream.tell(), stream.damage, 0, False
                line = b"" if damage else _search(stream)
                while not line and stream.damage and not ended:
                    damage = stream.damage
                    lost += stream.resume()
                    ended = stream.damage is not None
                    line = b"" if ended else _search(stream)
                if isinstance(error, EOFError) and not damage:
                    lost = stream.size
                elif not ended:
                    lost += stream.part(stream.tell() - begin - len(line))
                yield Damaged(f"{name}#{number}", damage or str(error), lost)
                if ended:
                    return


def _first_line(stream):
    """The first line of the next record; empty at the end."""
    while line := stream.readline(HEADER):
        if line.strip():
            return line
    return b""


def _search(stream):
    """The next line that looks like the first line of a record; empty at the end."""
    begins = True  # whether the next bytes begin a line
    while line := stream.readline(HEADER):
        if begins and line.startswith(b"WARC/"):
            return line
        begins = line.endswith(b"\n")
    return b""


def _block(line, stream, kind):
    """The bytes of the record that begins with this line; None if it is of another kind.

    Raises ValueError if it is damaged, EOFError if the file ends before it does.
    """
    from warcio.statusandheaders import StatusAndHeadersParser

    if not line.startswith(b"WARC/"):
        raise ValueError(f"expected a record, which begins with WARC/1.0, found {line[:40]!r}")
    header = line
    while line.strip():
        line = stream.readline(HEADER)
        header += line
        if not line or len(header) > HEADER:
            kind = ValueError if line else EOFError
            raise kind(f"its header does not end within {len(header):,} bytes: {header[:40]!r}")
    fields = StatusAndHeadersParser([], verify=False).parse(BytesIO(header))
    length = fields.get_header("Content-Length") or ""
    if not (length.isascii() and length.isdigit()):
        raise ValueError(f"expected a Content-Length, found {length!r}")
    if (size := int(length)) > LARGEST_RECORD:
        raise ValueError(f"a record of {size:,} bytes, more than {LARGEST_RECORD:,}")
    block = stream.read(size)
    if len(block) < size:
        raise EOFError(f"the file ends after {len(block):,} of the record's {size:,} bytes: it is truncated")
    if (end := stream.read(len(END))) != END:
        raise ValueError(f"expected two empty lines after the record's {size:,} bytes, found {end!r}")
    if not stream.sound:
        raise ValueError(stream.damage)
    return block if fields.get_header("WARC-Type") == kind else None
