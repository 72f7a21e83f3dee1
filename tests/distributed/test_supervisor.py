"""A rank that ends, or hangs, without a word of its own is named by the process that waits for it. No MPI is needed."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slow import slow_but

from tinygrad_lm.distributed import supervisor
from tinygrad_lm.distributed.launcher import MARKS, SIZES
from tinygrad_lm.distributed.supervisor import BEAT, BEGUN, HINT, JOINED, JOINS, LEFT, Supervisor, time_limit
from tinygrad_lm.errors import ConfigError

LIMIT = 2.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def waiting(tmp_path, monkeypatch):
    """The path of the file that is there while a rank waits for others."""
    path = tmp_path / "waiting"
    monkeypatch.setenv(supervisor.WAITING, str(path))
    return path


@pytest.fixture
def watching(monkeypatch):
    """watching(*words): the supervisor of rank 2, to which its rank has said them; what it prints is in `out`."""
    monkeypatch.setenv("PMI_RANK", "2")
    monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(supervisor.platform, "node", lambda: "here")
    monkeypatch.setattr(supervisor.sys, "__stderr__", io.StringIO())

    def watching(*words, asked=()):
        found = Supervisor(77, line, LIMIT, asked)
        for word in words:
            found.heard(word)
        found.out = supervisor.sys.__stderr__
        return found

    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb", 0) as line:
        yield watching


# ---- how a rank ends


@pytest.mark.parametrize(
    ("words", "status", "code", "problem"),
    [
        ([], 0, 0, None),
        ([], 7, 7, "ended with status 7 before it had come to the others\n"),
        ([JOINS], 0, 1, "ended with status 0 while it joined the others\n"),
        ([JOINS, JOINED], 7, 7, f"ended with status 7 without a word\n{HINT}\n"),
        ([JOINS, JOINED], 0, 1, f"ended with status 0 without a word\n{HINT}\n"),
        ([JOINS, JOINED], -9, 137, f"was ended by signal 9 (Killed) without a word\n{HINT}\n"),
        ([JOINS, JOINED, LEFT], 0, 0, None),
        ([JOINS, JOINED, LEFT], 2, 2, None),
        ([JOINS, JOINED, LEFT, JOINS, JOINED], 3, 3, f"ended with status 3 without a word\n{HINT}\n"),
    ],
)
def test_one_that_has_not_left_is_named(words, status, code, problem, watching):
    """With a status that is that of a failure; the others have said what was wrong."""
    found = watching(*words)
    assert found.ended(status) == code
    assert found.out.getvalue() == (f"error: rank 2 (process 77 on here) {problem}" if problem else "")


def test_a_job_that_was_asked_to_stop_names_nobody(watching):
    found = watching(JOINS, JOINED, asked=[signal.SIGTERM])
    assert found.ended(-signal.SIGTERM) == 143
    assert found.out.getvalue() == ""


# ---- how a rank hangs


def patience(found):
    """Seconds until it has a problem, and which; None after an hour."""
    for beat in range(int(3600 / BEAT)):
        if problem := found.problem():
            return beat * BEAT, problem
    return None


def test_one_that_does_not_come_while_others_wait_is_named_after_the_limit(watching, waiting):
    found = watching()
    assert patience(found) is None  # none waits
    waiting.touch()
    seconds, problem = patience(found)
    assert seconds == pytest.approx(LIMIT, abs=2 * BEAT)
    assert problem == "has not come to the others, which have waited for it for 2 s"


def test_one_that_waits_for_others_is_the_second_to_speak(watching, waiting):
    seconds, problem = patience(watching(JOINS))
    assert LIMIT + 1 < seconds < LIMIT + 4
    assert problem == "has waited for others for 2 s, and not all of them have come"


def test_each_wait_has_its_own_time(watching, waiting):
    found = watching()
    waiting.touch()
    for _ in range(int(LIMIT / BEAT)):
        assert found.problem() is None
    found.heard(JOINS)
    assert patience(found)[0] > LIMIT + 1


@pytest.mark.parametrize("words", [[JOINS, JOINED], [JOINS, JOINED, LEFT]])
def test_one_that_has_joined_has_another_watch(words, watching, waiting):
    waiting.touch()
    assert patience(watching(*words)) is None


def test_others_see_that_one_waits(watching, waiting):
    found = watching()
    assert not waiting.exists()
    found.heard(JOINS)
    assert waiting.exists()
    found.heard(JOINED)
    assert not waiting.exists()


@pytest.mark.parametrize("word", [JOINS, BEGUN])
def test_nothing_is_left_of_a_job_that_failed(word, watching, waiting):
    found = watching(JOINS)
    found.said = word
    found.ended(1)
    assert not waiting.exists()


# ---- processes

PROGRAM = """
import os, signal, sys, threading
from tinygrad_lm.distributed.supervisor import JOINED, JOINS, LEFT, say, supervised

def hanging():
    threading.Event().wait()

first = os.getpid()
{before}
supervised()
supervised()
say(JOINS)
say(JOINED)
print("child" if os.getpid() != first else "first", os.getppid() == int(os.environ.get("FIRST", first)))
sys.stdout.flush()
{after}
say(LEFT)
sys.exit(5)
"""


def run(tmp_path, before="", after="", ours=False, **variables):
    """(status, out, err) of rank 2 of 4, started as it is, or by our launcher's."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(before=before, after=after))
    words = ["-m", "tinygrad_lm.distributed.supervisor"] if ours else []
    environment = {name: value for name, value in os.environ.items() if name not in (*MARKS, *SIZES)}
    environment |= {"PMI_RANK": "2", "PMI_SIZE": "4", "PYTHONPATH": str(ROOT), supervisor.TIMEOUT: "0.5"} | variables
    command = [sys.executable, *words, path]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, start_new_session=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("ours", slow_but([False, True], True))
def test_a_process_is_waited_for(ours, tmp_path):
    """Whether it was started so, or begins it itself; once, and what it prints is printed once."""
    status, out, err = run(tmp_path, "print('once')", "os._exit(7)", ours)
    assert status == 7
    assert out == f"once\n{'first False' if ours else 'child True'}\n"
    assert err.startswith("error: rank 2 (process ")
    assert err.endswith(f"ended with status 7 without a word\n{HINT}\n")
    assert run(tmp_path, ours=ours)[::2] == (5, "")


def test_a_signal_to_all_is_the_rank_s(tmp_path):
    """Launchers send it to the group: the process that waits neither ends by it nor speaks, nor hands it on again."""
    handle = "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))"
    status, out, err = run(tmp_path, handle, "os.killpg(0, signal.SIGTERM); os._exit(3)")
    assert (status, out, err) == (3, "child True\nasked\n", "")


@pytest.mark.slow
def test_one_that_hangs_says_where(tmp_path):
    waiting = tmp_path / "waiting"
    waiting.touch()
    status, _, err = run(tmp_path, "hanging()", ours=True, **{supervisor.WAITING: str(waiting)})
    assert status == 1
    assert "has not come to the others, which have waited for it for 0.5 s\nit is here:\n" in err
    assert "in hanging" in err
    assert not waiting.exists()


@pytest.mark.parametrize(
    "variables",
    [{"PMI_RANK": "0", "PMI_SIZE": "1"}, {"SLURM_STEP_NUM_TASKS": "4"}, {}],
    ids=["of one", "without a number", "without a launcher"],
)
def test_a_process_alone_has_none(variables, monkeypatch):
    for name in (*MARKS, *SIZES):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it has forked"))
    supervisor.supervised()


def test_a_process_that_is_in_mpi_is_not_forked(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it has forked"))
    supervisor.supervised()


# ---- the limit


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_none(text, monkeypatch):
    monkeypatch.setenv(supervisor.TIMEOUT, text)
    with pytest.raises(ConfigError, match=f"TINYGRAD_LM_TIMEOUT must be a positive number of seconds, found '{text}'"):
        time_limit()


def test_the_limit(monkeypatch):
    monkeypatch.delenv(supervisor.TIMEOUT, raising=False)
    assert time_limit() == 30
    monkeypatch.setenv(supervisor.TIMEOUT, "0.5")
    assert time_limit() == 0.5
