"""The signatures of all kept documents: in memory to find duplicates, in a file to resume."""

import os

from tinygrad_lm.curate.cleaning.duplicates import Duplicates
from tinygrad_lm.curate.output.journal import reporting_write_errors
from tinygrad_lm.curate.output.shard_writer import truncate_file, write_all

BLOCK = 2**12  # signatures read at once


def new_signatures():
    """The journal's entry before the first document: number of signatures in the file, and their bytes."""
    return {"count": 0, "bytes": 0}


class SignatureStore:
    """Find duplicates of one kind across all sources. state: the journal's entry, to which the file is cut"""

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
        """Whether an earlier document is like this one; if not, remember it."""
        if self.duplicates.seen(signature):
            return True
        self.waiting.append(signature)
        return False

    def sync(self):
        """Sync all signatures to disk."""
        content = b"".join(self.waiting)
        with reporting_write_errors(self.path), open(self.path, "ab", buffering=0) as file:
            write_all(file, content)
            os.fsync(file.fileno())
        self.state["count"] += len(self.waiting)
        self.state["bytes"] += len(content)
        self.waiting = []
