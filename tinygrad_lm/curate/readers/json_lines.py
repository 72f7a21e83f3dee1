"""JSON lines: one object per line, whose field "text" is a document; the format of the Pile, C4 and many others."""

import json
from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import LARGEST_RECORD, Damaged, Record
from tinygrad_lm.data.tokenizers.vocabulary import utf8

FIELD = "text"


def json_records(path):
    """Yield the lines as bytes, without empty ones."""
    name, number = Path(path).name, 0
    with open_bytes(path) as stream:
        while (line := stream.readline(LARGEST_RECORD + 1)) or stream.damage:
            number += 1
            if len(line) > LARGEST_RECORD:
                size = len(line)
                while line and not line.endswith(b"\n"):
                    line = stream.readline(2**20)
                    size += len(line)
                yield Damaged(f"{name}#{number}", f"a line of more than {LARGEST_RECORD:,} bytes", stream.part(size))
            elif stream.damage and not line.endswith(b"\n"):
                damage, lost = stream.damage, stream.resume()
                yield Damaged(f"{name}#{number}", damage, lost)
                if stream.damage:
                    return
            elif line.strip():
                yield Record(f"{name}#{number}", line)


def json_text(content):
    """The field "text" of a line."""
    try:
        found = json.loads(str(content, "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start:,}") from None
    except RecursionError:
        raise ValueError("expected an object with a text, found too deeply nested brackets") from None
    except ValueError as error:
        raise ValueError(f"expected JSON, found {content[:40]!r}: {error}") from None
    value = found.get(FIELD) if isinstance(found, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"expected an object with a text {FIELD!r}, found {str(found)[:60]}")
    utf8(value)  # raises for half a surrogate pair, which JSON can express and UTF-8 cannot
    return value
