"""Find, read and check evaluation data, before anything is evaluated and with all problems in one message."""

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
class TaskFile:
    """A file or folder that a task reads: its usual name, what it must contain, and where it is published."""

    name: str
    format: str
    url: str


def find_files(task, files, folder, given=()):
    """The paths of a task's files: those given, or the usual names in the folder. DataError lists missing ones."""
    if given and len(given) != len(files):
        raise DataError(
            f"{task}: expected {len(files)} path{'s' * (len(files) > 1)} after '=', separated by commas "
            f"({', '.join(file.name for file in files)}), found {len(given)}"
        )
    paths = [Path(path) for path in given] or [Path(folder, file.name) for file in files]
    missing = [
        f"{task}: there is no {path}\n  format : {file.format}\n  from   : {file.url}"
        for path, file in zip(paths, files, strict=True)
        if not path.exists()
    ]
    if missing:
        names = ",".join("FILE" for _ in files)
        raise DataError("\n".join(missing) + f"\n  hint   : put it there, or give its path: --tasks {task}={names}")
    return paths


def read_lines(path):
    """The lines of a UTF-8 file, which may be gzipped, without their line ends."""
    if Path(path).suffix == ".gz":
        try:
            text = gzip.decompress(Path(path).read_bytes()).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise DataError(f"data file {path}: expected gzipped UTF-8 text: {error}; download it again") from error
    else:
        text = read_text(path)
    # Not splitlines, which would also cut at characters that are allowed within a JSON string.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def convert_lines(path, numbered, convert):
    """[convert(line) for number, line in numbered]. One DataError lists the lines for which it raises ValueError."""
    examples, problems = [], []
    for number, line in numbered:
        try:
            examples.append(convert(line))
        except ValueError as error:
            problems.append(f"  line {number:,}: {error}")
    if problems:
        more = [f"  and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        count = f"{len(problems):,} damaged line{'s' if len(problems) > 1 else ''}"
        raise DataError("\n".join([f"data file {path}: {count}; nothing was evaluated", *problems[:SHOWN], *more]))
    if not examples:
        raise DataError(f"data file {path}: expected examples, found none")
    return examples


def read_json_lines(path, convert):
    """[convert(object)] for a file with one JSON object per line."""
    return convert_lines(path, enumerate(read_lines(path), start=1), lambda line: convert(parse_json(line)))


def parse_json(line):
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON, found {line[:40]!r} ({error.msg} at column {error.colno})") from None


def expect(record, **kinds):
    """The values of a JSON object's fields, in this order. Raises ValueError for a missing field or another type."""
    wanted = ", ".join(f"{name}: {KINDS[kind]}" for name, kind in kinds.items())
    if not isinstance(record, dict):
        raise ValueError(f"expected an object with {wanted}, found {str(record)[:40]!r}")
    if missing := [name for name in kinds if name not in record]:
        raise ValueError(f"expected {wanted}; found no {', '.join(missing)}")
    for name, kind in kinds.items():
        if not isinstance(record[name], kind):
            raise ValueError(f"expected {name}: {KINDS[kind]}, found {str(record[name])[:40]!r}")
    return tuple(record[name] for name in kinds)
