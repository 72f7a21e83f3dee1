"""Write token files so that an interrupted run can resume.

Tokens are appended to a file with the suffix `.partial`. When it is full it gets its header, is synced, and only then
renamed: a file with the name of a token file is complete. Bytes that the journal does not list are cut off on resume,
because they will be written again.
"""

import hashlib
import os
import re

from tinygrad_lm.curate.output.journal import reporting_write_errors
from tinygrad_lm.data.shards import HEADER, shard_header, token_dtype
from tinygrad_lm.errors import DataError
from tinygrad_lm.files import sync

PARTIAL = ".partial"


def new_split():
    """The journal's entry of a split before its first document. open: tokens in the unfinished file"""
    return {"documents": 0, "tokens": 0, "bytes": 0, "nats": 0.0, "shards": [], "open": 0}


class ShardWriter:
    """Write one split of one source as folder/<split>_000000.bin, …; all files but the last are full.

    state: the journal's entry, updated in place; existing files are rewound to it
    """

    def __init__(self, folder, split, vocab_size, shard_tokens, state):
        self.folder, self.split, self.shard_tokens, self.state = folder, split, shard_tokens, state
        self.dtype, self.file = token_dtype(vocab_size), None
        with reporting_write_errors(folder):
            folder.mkdir(exist_ok=True)
        rewind(folder, split, self.dtype.itemsize, state)

    def append(self, documents):
        """Append the tokens of TokenizedDocuments; a document may continue in the next file."""
        self.state["documents"] += len(documents)
        for document in documents:
            self.state["bytes"] += document.size
            self.state["nats"] += document.nats or 0.0
        left = memoryview(b"".join(document.tokens for document in documents))
        while left:
            here = left[: (self.shard_tokens - self.state["open"]) * self.dtype.itemsize]
            self._write(here)
            self.state["open"] += len(here) // self.dtype.itemsize
            self.state["tokens"] += len(here) // self.dtype.itemsize
            left = left[len(here) :]
            if self.state["open"] == self.shard_tokens:
                self.finish()

    def sync(self):
        """Sync the appended tokens to disk."""
        if self.file:
            with reporting_write_errors(self.path):
                os.fsync(self.file.fileno())

    def finish(self):
        """Complete the unfinished file."""
        if not self.state["open"]:
            return
        with reporting_write_errors(self.path):
            file = self._opened()
            file.seek(0)
            write_all(file, shard_header(self.state["open"], self.dtype))
            os.fsync(file.fileno())
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            self.close()
            final = self.path.with_suffix("")
            self.path.rename(final)
            sync(self.folder)
        name = f"{self.folder.name}/{final.name}"
        self.state["shards"].append({"file": name, "tokens": self.state["open"], "sha256": sha256})
        self.state["open"] = 0

    def close(self):
        if self.file:
            self.file.close()
            self.file = None

    @property
    def path(self):
        """The path of the unfinished file."""
        return self.folder / f"{self.split}_{len(self.state['shards']):06d}.bin{PARTIAL}"

    def _opened(self):
        if not self.file:
            self.file = self.path.open("r+b" if self.state["open"] else "w+b", buffering=0)
            self.file.seek(0, os.SEEK_END)
        return self.file

    def _write(self, content):
        with reporting_write_errors(self.path):
            file = self._opened()
            if not self.state["open"]:
                write_all(file, bytes(HEADER))
                sync(self.folder)
            write_all(file, content)


def write_all(file, content):
    """Write all of the content; a single call may write less, for instance when the disk is almost full."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def rewind(folder, split, itemsize, state):
    """Restore the files of a split to the journal's state: remove later files and later tokens."""
    whole, kept = len(state["shards"]), HEADER + state["open"] * itemsize if state["open"] else 0
    for path in sorted(folder.glob(f"{split}_*.bin*")):
        name = re.fullmatch(rf"{split}_([0-9]{{6,}})\.bin({re.escape(PARTIAL)})?", path.name)
        if not name or int(name[1]) < whole:
            continue  # not ours, or to be kept
        with reporting_write_errors(path):
            if int(name[1]) > whole or not kept:
                path.unlink()
            elif path.suffix == ".bin":  # finished after the journal was saved
                path.rename(path.with_name(path.name + PARTIAL))
    if kept:
        truncate_file(folder / f"{split}_{whole:06d}.bin{PARTIAL}", kept)
    for number, shard in enumerate(state["shards"]):
        check_file_size(folder / f"{split}_{number:06d}.bin", HEADER + shard["tokens"] * itemsize)


def truncate_file(path, size):
    """Cut a file to this size. Raises DataError if it is shorter."""
    check_file_size(path, size, least=True)
    with reporting_write_errors(path):
        os.truncate(path, size)


def check_file_size(path, size, least=False):
    """Raise DataError unless a file has this size, or with `least` this size or more."""
    try:
        found = path.stat().st_size
    except OSError:
        found = None
    if found is None or found < size or (found > size and not least):
        raise DataError(
            f"prepare: {path}: expected {size:,} bytes as the journal says, found "
            f"{'no such file' if found is None else f'{found:,}'}; it was changed: start again with --restart"
        )
