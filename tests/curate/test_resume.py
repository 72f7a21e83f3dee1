"""Runs of `prepare` that are killed or stopped, or meet a full disk, at every possible place, and resume.

Run as a program, this file is the victim: it forks a process for each call to the file system and lets that process
die (or meet a full disk) there. The tests check what is left and resume from it.
"""

import argparse
import errno
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from slow import slow_but
from small_mixture import Inline, contents, documents, prepare_inline, set_up, write_mixture

from tinygrad_lm.curate import prepare as module
from tinygrad_lm.curate.output import shard_writer, signatures
from tinygrad_lm.curate.pipeline import pipeline
from tinygrad_lm.errors import DataError

ROOT = Path(__file__).parents[2]
SIZES = (1500, 2500)  # of a batch; between two saves of the journal
WRITES = {"os.mkdir", "os.rename", "os.truncate"}


# ---- the victim


def at_call(k, act):
    """Call `act(event)` before the k-th and later calls that open, create, write, rename, truncate, remove or sync.

    Writes of tokens and signatures are interrupted in the middle.
    """
    calls = itertools.count(1)

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            event = "write"
        if event in WRITES | {"os.remove", "os.rmdir", "write", "fsync", "put"} and next(calls) >= k:
            act(event)

    def put_half(file, content, put=shard_writer.write_all):
        put(file, content[: len(content) // 2])
        hook("put", ())
        put(file, content[len(content) // 2 :])

    sys.addaudithook(hook)  # Python calls it for all of these but put and fsync
    shard_writer.write_all = signatures.put = put_half
    os.fsync = lambda descriptor: hook("fsync", ())


def kill(event):
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full(event):
    """Writing fails; reading and removing still work."""
    if event in WRITES | {"write", "fsync", "put"}:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def attempt(mixture, out, k, act):
    """Prepare, stopped at the k-th call. Returns the exit status: 0 done, 2 a DataError, whose text is kept."""
    if (child := os.fork()) == 0:
        status = 3
        with suppress(BaseException):
            at_call(k, act)
            try:
                prepare_inline(mixture, out)
                status = 0
            except DataError as error:
                os.write(message, str(error).encode())
                status = 2
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def victim(folder, act, pairs):
    """Stop at the first, second, … call; or `pairs` times at a random call and, when resuming, at another."""
    global message
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, folder, *SIZES)
        mixture = write_mixture(folder / "raw", shard_tokens=700)
        prepare_inline(mixture, folder / "first")  # so that the children need not import what it needs
        places = itertools.count(1) if not pairs else np.random.default_rng(0).integers(1, 120, pairs).tolist()
        for number, k in enumerate(places):
            message = os.open(folder / f"{number}.message", os.O_CREAT | os.O_WRONLY)
            status = attempt(mixture, folder / f"{number}.out", k, act)
            if pairs:
                status = attempt(mixture, folder / f"{number}.out", k // 2 + 1, act)
            (folder / f"{number}.status").write_text(str(status))
            if status == 0 and not pairs:
                return


def outcomes(folder, act, pairs=0):
    """Yield (output folder, exit status, message) for each place of interruption."""
    command = [sys.executable, __file__, folder, act, "--pairs", str(pairs)]
    places = map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "helpers"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    subprocess.run(command, env=environment, check=True, timeout=300, stdout=subprocess.DEVNULL)
    for number in itertools.count():
        status = folder / f"{number}.status"
        if not status.exists():
            assert number > 30  # files are made, grow, are synced and renamed, and so is the journal
            return
        yield folder / f"{number}.out", int(status.read_text()), (folder / f"{number}.message").read_text()


# ---- killed, and a full disk

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def tmp_path(tmp_path):
    """In memory if possible, because these tests write thousands of files."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def expected(tmp_path, monkeypatch):
    """(mixture file, {name: bytes} of its uninterrupted output)."""
    set_up(monkeypatch, tmp_path, *SIZES)
    mixture = write_mixture(tmp_path / "raw", shard_tokens=700)
    return mixture, contents(prepare_inline(mixture, tmp_path / "undisturbed"))


def whole_so_far(out, expected):
    """Check that every file with the name of a token file is complete."""
    for path in out.glob("*/*.bin"):
        assert path.read_bytes() == expected[path.relative_to(out).as_posix()]
    if (out / "manifest.json").exists():
        assert all((out / name).read_bytes() == content for name, content in expected.items())


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("pairs", [0, 60], ids=["once", "twice"])
def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path, expected, pairs):
    mixture, expected = expected
    statuses, began = set(), set()
    for out, status, _ in outcomes(tmp_path, "kill", pairs):
        statuses.add(status)
        whole_so_far(out, expected)
        if (out / "progress.json").exists():
            state = json.loads((out / "progress.json").read_bytes())
            began.add((state["source"], state["record"]))
        assert contents(prepare_inline(mixture, out)) == expected
    assert -signal.SIGKILL in statuses
    assert pairs or (0 in statuses and len(began) > 10)


@pytest.mark.slow
@needs_fork
def test_a_full_disk_is_an_error_that_names_a_file_and_loses_nothing(tmp_path, expected):
    mixture, expected = expected
    statuses = []
    for out, status, message in outcomes(tmp_path, "disk_full"):
        statuses.append(status)
        whole_so_far(out, expected)
        if status:
            assert message.startswith(f"prepare: cannot write {out}")
            assert "No space left on device" in message
            assert "the same command resumes" in message
        assert contents(prepare_inline(mixture, out)) == expected
    assert set(statuses) == {0, 2}


def test_files_that_may_not_grow(tmp_path, expected):
    """A real limit of the operating system, reached in the middle of a write."""
    resource = pytest.importorskip("resource", reason="this system has no limits to set")
    mixture, _ = expected
    text = mixture.read_text().replace("shard_tokens = 700", "shard_tokens = 100000")
    mixture.write_text(text)
    (mixture.parent / "more" / "b.lines").write_text("\n".join(documents(500, seed=8)), "utf-8")
    expected = contents(prepare_inline(mixture, tmp_path / "whole"))
    limit = len(expected["more/train_000000.bin"]) - 3
    assert limit > max(len(content) for name, content in expected.items() if name != "more/train_000000.bin")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write .*more/train_000000\.bin\.partial: File too large"):
            prepare_inline(mixture, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    whole_so_far(tmp_path / "out", expected)
    assert contents(prepare_inline(mixture, tmp_path / "out")) == expected


def test_a_disk_that_is_really_full(tmp_path, expected):
    mixture, expected = expected
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("nobody but the superuser may mount a small disk")
    try:
        with pytest.raises(DataError, match="No space left on device"):
            prepare_inline(mixture, disk / "out")
        whole_so_far(disk / "out", expected)
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        assert contents(prepare_inline(mixture, disk / "out")) == expected
    finally:
        subprocess.run(["umount", disk], check=True)


def test_everything_is_on_the_disk_before_its_name_is_and_before_the_journal_tells_of_it(tmp_path, monkeypatch):
    """Killing a process cannot show what a power failure loses, so check what was synced, and when."""
    synced, renamed, problems = {}, set(), []

    def fsync(descriptor):
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size
        renamed.discard(status.st_ino)

    def safe(path):
        status = path.stat()
        if synced.get(status.st_ino) != status.st_size:
            problems.append(path.name)

    def rename(path, target, rename=Path.rename):
        safe(path)
        renamed.add(path.parent.stat().st_ino)
        return rename(path, target)

    def replace(path, target, replace=Path.replace):
        safe(path)
        if target.name == "progress.json":
            for file in [*target.parent.glob("*/*.partial"), *target.parent.glob("signatures.*")]:
                safe(file)
            problems.extend(renamed)
        return replace(path, target)

    set_up(monkeypatch, tmp_path)
    mixture = write_mixture(tmp_path / "raw", shard_tokens=700)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Path, "replace", replace)
    out = prepare_inline(mixture, tmp_path / "out")
    assert problems == []
    assert len(synced) > 20
    for folder in (out, out / "books", out / "web", out / "more"):
        assert folder.stat().st_ino in synced


# ---- asked to stop


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_and_tells_how_to_go_on(tmp_path, expected, number, status, monkeypatch, capsys):
    mixture, expected = expected

    class Interrupted(Inline):
        def submit(self, function, job, items):
            if self.submitted == 12:
                os.kill(os.getpid(), number)
            return super().submit(function, job, items)

    monkeypatch.setattr(
        pipeline, "JOURNAL_INTERVAL", 10**9
    )  # so that nothing but the signal makes it save within a source
    executor = Interrupted()
    monkeypatch.setattr(module, "find_pool", lambda name, workers: nullcontext((executor, workers)))
    out = tmp_path / "out put"
    arguments = argparse.Namespace(mixture=str(mixture), out=str(out), executor="processes", workers=1, restart=False)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped:
        module.prepare_command(arguments)
    assert isinstance(stopped.value, KeyboardInterrupt) if status == 130 else stopped.value.code == status
    assert f"{out}: progress is saved; the same command resumes\n" in capsys.readouterr().out
    assert not (out / "manifest.json").exists()
    done = executor.submitted - 3  # those in flight are repeated
    rest = Inline()
    assert contents(prepare_inline(mixture, out, rest)) == expected
    whole = Inline()
    prepare_inline(mixture, tmp_path / "again", whole)
    assert rest.submitted <= whole.submitted - done


# ---- real processes

KILLED = """
import multiprocessing, os, signal, sys
from tinygrad_lm.curate.pipeline import batches, pipeline
from tinygrad_lm.curate.output import journal
from tinygrad_lm.curate import prepare
from tinygrad_lm.curate.pipeline.executors import processes

if __name__ == "__main__":
    batches.BATCH_SIZE, pipeline.JOURNAL_INTERVAL, save, calls = 300, 1000, journal.save_journal, []

    def killing(out, state):
        save(out, state)
        calls.append(state["record"])
        if len(calls) == int(sys.argv[3]):
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    journal.save_journal = killing
    prepare.prepare(sys.argv[1], sys.argv[2], processes(2))
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system cannot wait for processes of others")
@pytest.mark.parametrize("entry", slow_but([2, 4], 2))
def test_workers_end_with_a_parent_that_was_killed_and_others_go_on(tmp_path, gpt2, entry, monkeypatch):
    for i, text in enumerate(documents(60, seed=5)):
        (tmp_path / f"{i:02}.txt").write_bytes(text.encode())
    mixture = tmp_path / "mix.toml"
    mixture.write_text('validation = 0.2\n[[source]]\nname = "a"\nweight = 1\nfiles = ["*.txt"]\n')
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, tmp_path / "killed.py", mixture, tmp_path / "out", str(entry)]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, timeout=100)
    assert ended.returncode == -signal.SIGKILL
    workers = ended.stdout.split()
    assert len(workers) == 2
    for worker in workers:
        with suppress(ProcessLookupError):  # gone already
            descriptor = os.pidfd_open(int(worker))
            assert select.select([descriptor], [], [], 60)[0]
            os.close(descriptor)
    assert json.loads((tmp_path / "out" / "progress.json").read_bytes())["file"] > 0
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    once = contents(prepare_inline(mixture, tmp_path / "once"))
    assert contents(prepare_inline(mixture, tmp_path / "out")) == once


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("act", choices=["kill", "disk_full"])
    parser.add_argument("--pairs", type=int)
    args = parser.parse_args()
    victim(args.folder, {"kill": kill, "disk_full": disk_full}[args.act], args.pairs)
