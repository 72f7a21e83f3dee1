"""Files that are whole or not there, whatever happens to the process or the power while they are written."""

import hashlib
import json
import os


def write(path, content):
    """Bytes to a file and the file to the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path, content):
    """Bytes in place of what a file held, all or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary, content)
    temporary.replace(path)
    sync(path.parent)


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
