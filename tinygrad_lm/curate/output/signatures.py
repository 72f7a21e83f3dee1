"""The signatures of all documents that were kept, in memory to find duplicates and in a file to go on after a kill."""

import os

from tinygrad_lm.curate.cleaning.duplicates import Duplicates
from tinygrad_lm.curate.output.journal import reporting_write_errors
from tinygrad_lm.curate.output.shard_writer import truncate_file, write_all

BLOCK = 2**12  # signatures read at once


def new_signatures():
    """The journal's entry: how many signatures are in the file, and of how many bytes."""
    return {"count": 0, "bytes": 0}


class SignatureStore:
    """Duplicates of one kind among all sources. state: the journal's entry, which the file is cut to and read by."""

    def __init__(self, out, kind, state):
        self.path, self.state, self.waiting = out / f"signatures.{kind}", state, []
        self.duplicates = Duplicates()
        with reporting_write_errors(self.path):
            self.path.touch()
        truncate_file(self.path, state["bytes"])
        size = state["bytes"] // state["count"] if state["count"] else 0
        with open(self.path, "rb") as file:
            while block := file.read(size * BLOCK):
                for i in range(0, len(block), size):
                    self.duplicates.seen(block[i : i + size])

    def seen(self, signature):
        """Is there a document like this one before it?"""
        if self.duplicates.seen(signature):
            return True
        self.waiting.append(signature)
        return False

    def sync(self):
        """All that was seen is on the disk."""
        content = b"".join(self.waiting)
        with reporting_write_errors(self.path), open(self.path, "ab", buffering=0) as file:
            write_all(file, content)
            os.fsync(file.fileno())
        self.state["count"] += len(self.waiting)
        self.state["bytes"] += len(content)
        self.waiting = []
