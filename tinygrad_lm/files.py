"""Files that are whole or not there, whatever happens to the process or the power while they are written."""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path


def write(path, content):
    """Bytes to a file and the file to the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path, content):
    """Bytes in place of what a file held, all or nothing."""
    with replacing(path) as temporary:
        write(temporary, content)
    sync(path.parent)


@contextmanager
def replacing(path):
    """A path, with the suffix of `path`; the file that is made there takes its place. A failure leaves nothing."""
    path = Path(path)
    temporary = path.with_name(f".tmp.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(folder):
    """A folder's entries to the disk: without this a rename may be lost with the power."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(manifest):
    """The sha256 sum of what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
