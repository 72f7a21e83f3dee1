"""Write files atomically: complete or absent, even if the process or the power dies. Seal their content; find files."""

import hashlib
import json
import os
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from tinygrad_lm.errors import ConfigError


def write(path, content):
    """Write bytes to a file and sync it to disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path, content):
    """Replace a file's content atomically."""
    with replacing(path) as temporary:
        write(temporary, content)
    sync(path.parent)


@contextmanager
def replacing(path):
    """Yield a temporary path with the suffix of `path`; its file then replaces `path`. A failure leaves no file."""
    path = Path(path)
    temporary = path.with_name(f".tmp.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(folder):
    """Sync a folder's entries to disk; otherwise a power failure may undo a rename."""
    if os.name == "nt":
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(content):
    """The sha256 of a JSON file's content, whatever its indentation."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def sealed_json(content, indent=None):
    """The bytes of a JSON file with its own checksum, which comes first (unsealed reads it)."""
    return json.dumps({"seal": seal(content)} | content, indent=indent).encode()


def unsealed(content):
    """What sealed_json was given, of the object that is in the file. ValueError or KeyError if the seal does not fit"""
    content = dict(content)
    expected = content.pop("seal")
    if expected != (found := seal(content)):
        raise ValueError(f"expected the seal {expected!s:.12}, found {found:.12}; the file was changed")
    return content


def nearest(path, names=()):
    """ "; did you mean …?" with what beside a path, or of these names, is called nearly so; "" if nothing is, or if
    it is there: then its name is not the mistake."""
    path = Path(path)
    if path.exists():
        return ""
    beside = {p.name: str(p) for p in path.parent.glob("*")}
    found = [beside.get(name, name) for name in get_close_matches(path.name, [*names, *beside], cutoff=0.5)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def check_picture_path(command, option, path):
    """The path, if a picture can be written there. Raises ConfigError, which names the command and its option."""
    from matplotlib.backend_bases import FigureCanvasBase

    path, formats = Path(path), FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        expected = f"a name that ends in .{', .'.join(sorted(formats))}"
        raise ConfigError(f"{command}: cannot draw {path}: expected {expected}")
    if not path.resolve().parent.is_dir():
        raise ConfigError(
            f"{command}: cannot draw {path}: its folder does not exist; create it, or choose another {option}"
        )
    return path
