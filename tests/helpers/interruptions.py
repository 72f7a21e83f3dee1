"""What can happen to a process at each thing that it asks of the file system."""

import errno
import itertools
import os
import signal
import sys

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
WRITES, REMOVES = {"os.mkdir", "os.rename"}, {"os.remove", "os.rmdir"}


def at_call(k, act):
    """From the k-th call on that opens, makes, renames, removes or syncs something, `act(event)` comes before it."""
    calls = itertools.count(1)

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax"):
            event = "write"
        if event in WRITES | REMOVES | {"open", "write", "fsync"} and next(calls) >= k:
            act(event)

    def watched(descriptor, fsync=os.fsync):
        hook("fsync", ())
        fsync(descriptor)

    sys.addaudithook(hook)  # Python calls it for all of these but fsync
    os.fsync = watched


def kill(event):
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(event):
    """Nothing can be written any more; reading and removing goes on."""
    if event in WRITES | {"write", "fsync"}:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
