"""Standard output and error that may fail: the reader of a pipe, such as head, has had enough, or a disk is full."""

import os
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def guarded(failed):
    """Within the block `failed(error)` is called when one of the two cannot be written; then nobody hears more of it.

    All is flushed at the end, so nothing is left that could fail when the process ends.
    """
    with redirect_stdout(Guarded(sys.stdout, failed)) as out, redirect_stderr(Guarded(sys.stderr, failed)):
        try:
            yield
        finally:
            out.flush()


class Guarded:
    """A stream, until writing fails. What is written after that goes nowhere."""

    def __init__(self, stream, failed):
        self.stream, self.failed = stream, failed

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self._attempt(self.stream.write, text)

    def flush(self):
        return self._attempt(self.stream.flush)

    def _attempt(self, what, *arguments):
        try:
            return what(*arguments)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # for what is in its buffer, too
            os.close(nowhere)
            self.failed(error)
