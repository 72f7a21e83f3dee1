"""Programs whose output cannot be written, with real pipes and a real full disk."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from slow import slow_but
from small_run import TEXT, pretrain, results

from tinygrad_lm.data.shards import shard_header

ROOT = Path(__file__).parents[1]
PRETRAIN = [ROOT / "tests" / "helpers" / "small_run.py", "--preset", "tiny", "--steps", 3, "--eval-every", 2]
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
BUFFERED = pytest.mark.parametrize("buffered", slow_but([True, False], True))


def ended(command, buffered, unread=("stdout",), **streams):
    """(status, what came on stderr) of a process; the pipes of `unread` are closed before it starts."""
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "" if buffered else "1"}
    try:
        process = subprocess.run(
            [sys.executable, *map(str, command)],
            env=environment, timeout=100, **{"stderr": subprocess.PIPE} | dict.fromkeys(unread, write) | streams,
        )  # fmt: skip
    finally:
        os.close(write)
    return process.returncode, (process.stderr or b"").decode()


@BUFFERED
@pytest.mark.parametrize("unread", [["stdout"], ["stdout", "stderr"]], ids=" ".join)
def test_a_training_outlives_its_reader(buffered, unread, tmp_path):
    (tmp_path / "text").write_text(TEXT)
    plan = ["--data", tmp_path / "text", "--out"]
    status, told = ended([*PRETRAIN, *plan, tmp_path / "run"], buffered, unread)
    assert status == 0
    assert "Error" not in told
    assert pretrain(*PRETRAIN[1:], *plan, tmp_path / "read") == 0
    assert results(tmp_path / "run") == results(tmp_path / "read")


@pytest.mark.slow
@FULL
def test_a_training_outlives_a_full_disk_for_its_output(tmp_path):
    (tmp_path / "text").write_text(TEXT)
    command = [*PRETRAIN, "--data", tmp_path / "text", "--out", tmp_path / "run"]
    with open("/dev/full", "wb") as full:
        assert ended(command, False, (), stdout=full)[0] == 0
    assert (tmp_path / "run" / "samples.txt").exists()


@pytest.mark.slow
def test_a_mistake_is_reported_when_standard_output_is_closed(tmp_path):
    status, told = ended([*PRETRAIN, "--data", tmp_path / "none"], True)
    assert (status, told.startswith("error: data file ")) == (2, True)


@pytest.fixture
def inspect(tmp_path):
    tokens = np.arange(256, dtype="<u2")
    (tmp_path / "a.bin").write_bytes(shard_header(len(tokens), tokens.dtype) + tokens.tobytes())
    return ["-m", "tinygrad_lm.data", "inspect", tmp_path, "--tokenizer", "byte"]


@pytest.mark.slow
@BUFFERED
def test_a_command_whose_reader_has_gone_ends_quietly(buffered, inspect):
    assert ended(inspect, buffered) == (141, "")


@pytest.mark.slow
@FULL
@BUFFERED
def test_a_command_on_a_full_disk_says_what_it_was_writing(buffered, inspect):
    with open("/dev/full", "wb") as full:
        status, told = ended(inspect, buffered, (), stdout=full)
    assert status == 2
    assert told == "error: what this command prints cannot be written: No space left on device; write it elsewhere\n"
