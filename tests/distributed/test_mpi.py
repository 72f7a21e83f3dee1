"""The programs as ranks of a real MPI: the bits of one process, one voice, and all stop together."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_job
import small_run
from small_job import ENOUGH, Course, launch, prepare
from small_run import pretrain, results

from tinygrad_lm.distributed.launcher import find_launcher
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.locks import FolderLock
from tinygrad_lm.train import checkpoint
from tinygrad_lm.train.run import RunFolder

pytest.importorskip("mpi4py", reason="the extra `mpi` is not installed")
try:
    find_launcher()
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder of runs that one process has made."""
    folder = tmp_path_factory.mktemp("runs")
    prepare(folder)
    small_job.one(Course("one", folder))
    shutil.copytree(folder / "one" / "pretrain", folder / "one" / "locked")
    return folder / "one"


@pytest.fixture(scope="module")
def two(one):
    """Of two, while another process has locked a run."""
    with FolderLock(one / "locked"):
        assert launched("two", 2, one) == ""
    return one.parent / "two"


@pytest.fixture(scope="module")
def four(one, two):
    assert launched("four", 4, one) == ""
    return one.parent / "four"


def launched(name, n, one):
    """Start a course on n ranks. Returns what they print outside of their runs."""
    job = launch(n, "small_job.py", name, one.parent)
    assert job.returncode == 0, job.stdout + job.stderr
    return job.stdout + job.stderr


def told(folder, name):
    """What each rank has to say of a run, whose status is the same on all: [{"out": …, "err": …, "steps": …}, …]."""
    paths = sorted(folder.glob(f"{name}.*.json"))
    assert len(paths) == {"one": 1, "two": 2, "four": 4}[folder.name]
    return [json.loads(path.read_text()) for path in paths]


def statuses(folder, name):
    return [each["status"] for each in told(folder, name)]


def unchanging(text):
    """What a run prints, but for the time that things took, and which processes there are."""
    return re.sub(r"ranks   .*\n|[\d,]+ tokens/s, .* left|[\d.,]+ (s in training|MiB)", "", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "finetune", "reinforce"])
def test_two_processes_write_what_one_does(name, one, two):
    """Checkpoints and the log, byte for byte but for its clock; samples; config.json but for what it is named."""
    assert statuses(two, name) == [0, 0]
    assert results(two / name) == results(one / name)
    assert (two / name / "samples.txt").read_bytes() == (one / name / "samples.txt").read_bytes()
    assert sorted(path.name for path in (two / name).iterdir()) == sorted(path.name for path in (one / name).iterdir())


@pytest.mark.slow
def test_four_processes_write_what_one_does(one, four):
    assert statuses(four, "pretrain") == [0] * 4
    assert results(four / "pretrain") == results(one / "pretrain")


@pytest.mark.slow
def test_reinforcement_has_something_to_learn(one):
    """Otherwise it would be no wonder that its bits are the same."""
    rewards = [record["reward"] for record in RunFolder(one / "reinforce").log.records if "reward" in record]
    assert min(rewards) > 0
    assert max(rewards) < 1


@pytest.mark.slow
def test_one_rank_alone_speaks(one, two):
    """It says what one process does, but for the time that things took, and which processes there are."""
    alone, (first, *others) = told(one, "pretrain")[0], told(two, "pretrain")
    expected = alone["out"].replace(str(one), str(two))
    assert unchanging(first["out"]) == unchanging(expected)
    assert re.match(r"ranks   processes \d+, \d+ on .+\n", first["out"])
    assert first["err"] == alone["err"]
    for other in others:
        assert (other["out"], other["err"]) == ("", "")
        assert other["steps"] == first["steps"] == alone["steps"]


@pytest.mark.slow
def test_the_clock_of_one_decides_for_all(two):
    """The number of steps, and the name of the folder."""
    first, second = told(two, "minutes")
    assert first["status"] == second["status"] == 0
    assert first["steps"] == second["steps"] != []
    assert [path.name for path in (two / "at").iterdir()] == ["0"]
    assert RunFolder(two / "at" / "0").log.curve("loss")[0] == first["steps"]


@pytest.mark.slow
def test_resumed_on_other_numbers_of_processes(one, four, tmp_path):
    """Steps 1 and 2 on one, 3 and 4 on two, 5 and 6 on four, the rest on one. A signal to any rank stops all of them,
    at the same step, and one checkpoint is written."""
    steps = {"one": [1, 2], "two": [3, 4], "four": [5, 6]}
    for name, (signal, status) in {"two": ("SIGTERM", 143), "four": ("SIGINT", 130)}.items():
        first, *others = told(one.parent / name, "chain")
        assert {each["status"] for each in (first, *others)} == {status}
        assert all(each["steps"] == steps[name] for each in (first, *others))
        assert first["out"].count(f"stopped by {signal} and saved") == 1
    chain = shutil.copytree(one / "chain", tmp_path / "chain")
    newest, _ = checkpoint.read_checkpoint(chain / "checkpoints")
    assert newest["step"] == 6
    assert pretrain("--resume", chain) == 0
    assert results(chain) == results(one / "pretrain")


REFUSED = {
    "locked": "error: another process is writing to .*: process .*",
    "finished": "error: .* is finished, at step 2; .*",
    "option": r"(?s)usage: .*: error: unrecognized arguments: --colour red",
    "taken": "error: run: .* exists and is not an empty folder; .*",
    "unwritable": "error: run: cannot write to /dev/null/run: .*",
    "shares": "error: training: 4 processes cannot divide the 2 shares .*; 2 can",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_once(name, two, four):
    """Whoever finds it: all ranks a wrong option, rank 0 alone a lock."""
    first, *others = told(four if name == "shares" else two, name)
    assert first["status"] == 2
    assert re.fullmatch(REFUSED[name] + r"(\n  hint : .*)?\n", first["err"])
    for other in others:
        assert (other["status"], other["err"], other["out"], other["steps"]) == (2, "", "", [])


@pytest.mark.slow
def test_help_is_given_once(two):
    first, second = told(two, "help")
    assert (first["status"], second["status"], second["out"]) == (0, 0, "")
    assert first["out"].count("usage: ") == 1


def test_our_program_starts_the_processes(one, tmp_path):
    """Everything on the streams that a user sees, each line once, and the status of the ranks."""
    words = [*small_job.PLAN, "--data", one.parent / "text", "--out", tmp_path / "run"]
    command = [
        sys.executable,
        "-m",
        "tinygrad_lm.distributed",
        "-n",
        2,
        "--timeout",
        ENOUGH,
        small_run.__file__,
        *words,
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = lambda: subprocess.run(map(str, command), env=environment, capture_output=True, text=True, timeout=ENOUGH)
    job = run()
    assert job.returncode == 0, job.stderr
    assert results(tmp_path / "run") == results(one / "pretrain")
    assert unchanging(job.stdout) == unchanging(
        told(one, "pretrain")[0]["out"].replace(str(one / "pretrain"), str(tmp_path / "run"))
    )
    again = run()
    assert again.returncode == 2
    assert again.stderr.count("exists and is not an empty folder") == 1
    assert "Traceback" not in again.stderr


@pytest.mark.slow
def test_three_processes_are_no_power_of_two(one, tmp_path):
    job = launch(3, "small_run.py", *small_job.PLAN, "--data", one.parent / "text", "--out", tmp_path / "run")
    assert job.returncode == 2
    assert job.stderr.count("3 processes cannot divide the 4 shares") == 1
    assert "Traceback" not in job.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_checkpoint_may_take_longer_than_the_limit(one, tmp_path):
    """Rank 0 sleeps for three of them while it saves; the others wait."""
    words = [*small_job.PLAN, "--steps", 1, "--data", one.parent / "text", "--out", tmp_path / "run"]
    job = launch(2, "faulty_run.py", "sleep", "write", 0, *words, TINYGRAD_LM_TIMEOUT="2")
    assert job.returncode == 0, job.stderr
    assert checkpoint.read_checkpoint(tmp_path / "run" / "checkpoints")[0]["step"] == 1
