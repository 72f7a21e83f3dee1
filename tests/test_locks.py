"""One writer at a time in a folder, whatever the one before has come to."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.locks import LOCK, FolderLock

fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")
ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from tinygrad_lm.locks import FolderLock
with FolderLock(sys.argv[1]):
    print(end="held", flush=True)
    input()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes) as process:
        assert process.stdout.read(4) == "held"
        yield process
        process.kill()


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path, holder):
    with pytest.raises(ConfigError) as caught:
        FolderLock(tmp_path).acquire()
    first, hint = str(caught.value).split("\n")
    who = f"process {holder.pid} on {os.uname().nodename}"
    assert first == f"another process is writing to {tmp_path}: {who}"
    assert "wait until it has ended, or stop it" in hint
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).read_text() == f"{who}\n"  # it is left behind, and stops no other process
    (tmp_path / LOCK).write_text(f"{who}, which had a longer name\n")
    with FolderLock(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
    assert not list(tmp_path.iterdir())


def test_who_waits_gets_the_lock_that_is_in_the_folder_then(tmp_path, monkeypatch):
    """The one that it waited for is removed with its holder's; a third process must not find both free."""
    first, flock = FolderLock(tmp_path), fcntl.flock
    first.acquire()

    def released_meanwhile(descriptor, how):
        first.release()
        flock(descriptor, how)

    second = FolderLock(tmp_path, wait=True)
    monkeypatch.setattr(fcntl, "flock", released_meanwhile)
    second.acquire()
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="another process is writing to"):
        FolderLock(tmp_path).acquire()
    second.release()
    FolderLock(tmp_path).acquire()


def test_a_lock_is_kept_beyond_a_block_that_succeeds_and_goes_with_its_object(tmp_path):
    with pytest.raises(KeyError), FolderLock(tmp_path).kept():
        raise KeyError
    with FolderLock(tmp_path).kept() as lock:
        lock.acquire()  # it has it
    with pytest.raises(ConfigError, match="another process is writing to"):
        FolderLock(tmp_path).acquire()
    del lock
    with FolderLock(tmp_path):
        pass


def test_a_folder_that_moved_keeps_the_file_of_who_came_to_its_place(tmp_path):
    (tmp_path / "run").mkdir()
    with FolderLock(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "run").mkdir()
        second = FolderLock(tmp_path / "run")
        second.acquire()
    assert (tmp_path / "run" / LOCK).exists()
    second.release()
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_goes_on(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path):
        pass
    assert f"warning: cannot lock {tmp_path}: {os.strerror(number)}; make sure" in capsys.readouterr().out


def test_a_system_without_locks_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with FolderLock(tmp_path), FolderLock(tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_the_name_alone(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with FolderLock(tmp_path), pytest.raises(ConfigError, match=f"is writing to {tmp_path}: it has not said which\n"):
        FolderLock(tmp_path).acquire()


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root may write anywhere
    with FolderLock(tmp_path):
        assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""
