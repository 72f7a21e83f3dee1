"""JSON lines: one object per line, one field of which is a document; the format of the Pile, C4 and many others."""

import json
from pathlib import Path

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.record import LARGEST_RECORD, Damaged, Record
from tinygrad_lm.errors import DataError

FIELD = "text"
BOM = b"\xef\xbb\xbf"


def json_records(path, field=FIELD):
    """Yield (line as bytes, field), without empty lines. Raises DataError for a file that is one array or object."""
    name, number = Path(path).name, 0
    with open_bytes(path) as stream:
        while (line := stream.readline(LARGEST_RECORD + 1)) or stream.damage:
            number += 1
            first = line.strip().removeprefix(BOM)
            if number == 1 and (first.startswith(b"[") or first == b"{"):
                found, query = ("an array", ".[]") if first.startswith(b"[") else ("one over several lines", ".")
                raise DataError(
                    f"data file {path}: expected one object per line, found {found}; convert it: jq -c {query} FILE"
                )
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
                yield Record(f"{name}#{number}", (line, field))


def json_text(content):
    """The field of a line, None if it is null."""
    content, field = content
    try:
        found = json.loads(str(content, "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start:,}") from None
    except RecursionError:
        raise ValueError("expected an object with a text, found too deeply nested brackets") from None
    except ValueError as error:
        raise ValueError(f"expected JSON, found {content[:40]!r}: {error}") from None
    if isinstance(found, dict) and field in found and found[field] is None:
        return None
    value = found.get(field) if isinstance(found, dict) else None
    if not isinstance(value, str):
        others = [name for name, other in found.items() if isinstance(other, str)] if isinstance(found, dict) else []
        hint = f"; field = {others[0]!r} of its source, or --field, names another" if others else ""
        raise ValueError(f"expected an object with a text {field!r}, found {str(found)[:60]}{hint}")
    return value
