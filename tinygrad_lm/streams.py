"""Handle failing standard output and error: a closed pipe (as with head) or a full disk."""

import os
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def guarded(failed):
    """Within the block, call `failed(error)` at the first failed write of each stream; later writes are dropped.

    Everything is flushed at the end, so that nothing can fail when the process exits.
    """
    with redirect_stdout(Guarded(sys.stdout, failed)) as out, redirect_stderr(Guarded(sys.stderr, failed)):
        try:
            yield
        finally:
            out.flush()


class Guarded:
    """A stream that drops all writes after the first failed one."""

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
            os.dup2(nowhere, self.stream.fileno())  # also drops what is in the buffer
            os.close(nowhere)
            self.failed(error)
