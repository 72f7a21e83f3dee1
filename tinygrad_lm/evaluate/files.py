"""Evaluation data from files: found, read whole and checked before anything is evaluated, with all problems at once."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lm.data.corpus import read_text
from tinygrad_lm.errors import DataError

KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false"}
SHOWN = 5  # damaged lines in a message


@dataclass(frozen=True)
class Source:
    """A file or folder of a task: its usual name, what must be in it, and where the public has it."""

    name: str
    format: str
    address: str


def find(task, sources, folder, given=()):
    """The paths of a task's sources: those given, or the usual names in the folder. DataError for missing ones."""
    if given and len(given) != len(sources):
        raise DataError(
            f"{task}: expected {len(sources)} path{'s' * (len(sources) > 1)} after '=', separated by commas "
            f"({', '.join(source.name for source in sources)}), found {len(given)}"
        )
    paths = [Path(path) for path in given] or [Path(folder, source.name) for source in sources]
    missing = [
        f"{task}: there is no {path}\n  format : {source.format}\n  from   : {source.address}"
        for path, source in zip(paths, sources, strict=True)
        if not path.exists()
    ]
    if missing:
        names = ",".join("FILE" for _ in sources)
        raise DataError("\n".join(missing) + f"\n  hint   : put it there, or give its path: --tasks {task}={names}")
    return paths


def lines(path):
    """The lines of a UTF-8 file, which may be gzipped, without their ends."""
    if Path(path).suffix == ".gz":
        try:
            text = gzip.decompress(Path(path).read_bytes()).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise DataError(f"data file {path}: expected gzipped UTF-8 text: {error}; fetch it anew") from error
    else:
        text = read_text(path)
    # Not splitlines, which would also cut at characters that are allowed within a JSON string.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def checked(path, numbered, make):
    """[make(x) for number, x in numbered]. Where it raises ValueError for some, one DataError tells their numbers."""
    items, problems = [], []
    for number, x in numbered:
        try:
            items.append(make(x))
        except ValueError as error:
            problems.append(f"  line {number:,}: {error}")
    if problems:
        more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        count = f"{len(problems):,} damaged line{'s' if len(problems) > 1 else ''}"
        raise DataError("\n".join([f"data file {path}: {count}; nothing was evaluated", *problems[:SHOWN], *more]))
    if not items:
        raise DataError(f"data file {path}: expected examples, found none")
    return items


def json_lines(path, make):
    """[make(object)] for a file with one JSON object a line."""
    return checked(path, enumerate(lines(path), start=1), lambda line: make(parse(line)))


def parse(line):
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON, found {line[:40]!r} ({error.msg} at column {error.colno})") from None


def expect(record, **kinds):
    """The values of a JSON object's fields, in this order. ValueError if some are missing or of another kind."""
    wanted = ", ".join(f"{name}: {KINDS[kind]}" for name, kind in kinds.items())
    if not isinstance(record, dict):
        raise ValueError(f"expected an object with {wanted}, found {str(record)[:40]!r}")
    if missing := [name for name in kinds if name not in record]:
        raise ValueError(f"expected {wanted}; found no {', '.join(missing)}")
    for name, kind in kinds.items():
        if not isinstance(record[name], kind):
            raise ValueError(f"expected {name}: {KINDS[kind]}, found {str(record[name])[:40]!r}")
    return tuple(record[name] for name in kinds)
