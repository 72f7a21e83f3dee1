"""One writer at a time in a folder, by an advisory lock of the operating system."""

import os
import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tinygrad_lm.errors import ConfigError

LOCK = ".lock"  # the file in the folder that is locked, which says who holds it


class FolderLock:
    """The lock of an existing folder against other writers. Readers need none.

    It is held from `acquire`, or the beginning of a `with` block, until `release`, the end of the block, or the end of
    the object; the system releases the lock of a process that ends, however it ends. A file is locked, not the folder,
    because network file systems show only locks on files to other machines. It is removed when the lock is released.
    wait: whether to wait while another process holds it, and not raise ConfigError
    """

    def __init__(self, folder, wait=False):
        self.folder, self.path, self.wait, self.descriptor = Path(folder), Path(folder, LOCK), wait, None

    def acquire(self):
        """Take the lock, if this object does not hold it. A system or a file system without locks gives none."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        if self.descriptor is not None or not os.access(self.folder, os.W_OK):  # no process can write there
            return
        try:
            self.descriptor = self._locked(fcntl)
        except BlockingIOError:
            raise ConfigError(
                f"another process is writing to {self.folder}: {self._holder()}\n"
                "  hint : wait until it has ended, or stop it, then run the same command again; or write to another "
                "folder"
            ) from None
        except OSError as error:
            print(f"warning: cannot lock {self.folder}: {error.strerror}; make sure that no other process writes to it")

    def release(self):
        """Release the lock, if this object holds it."""
        if self.descriptor is not None:
            with suppress(OSError):  # the folder may have become read-only; the file says nothing to others
                if self._in_place(self.descriptor):
                    self.path.unlink()
            os.close(self.descriptor)
            self.descriptor = None

    @contextmanager
    def kept(self):
        """Acquire the lock and hold it beyond the block, unless the block fails."""
        self.acquire()
        try:
            yield self
        except BaseException:
            self.release()
            raise

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *error):
        self.release()

    def __del__(self):
        if self.descriptor is not None:
            os.close(self.descriptor)

    def _locked(self, fcntl):
        """The descriptor of the file, locked."""
        while True:
            with ExitStack() as opened:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
                opened.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB))
                if self._in_place(descriptor):
                    with suppress(OSError):  # on a full disk only the message to others is shorter
                        os.ftruncate(descriptor, 0)
                        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
                    opened.pop_all()
                    return descriptor

    def _in_place(self, descriptor):
        """Whether this is still the folder's file: who held the lock before may have removed it since it was opened."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _holder(self):
        """The process that holds the lock, as it has written into the file."""
        with suppress(OSError):
            if re.fullmatch(r"process \d+ on \S+\n", text := self.path.read_text("utf-8", "replace")):
                return text.strip()
        return "it has not said which"
