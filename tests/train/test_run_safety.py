"""A run's folder has one writer, and damage to its files is noticed before anything is written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_run
from small_run import TEXT, after_update, pretrain, results

from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.files import sealed_json, unsealed
from tinygrad_lm.locks import LOCK, FolderLock
from tinygrad_lm.train.command import resumed
from tinygrad_lm.train.run import RunFolder, check_free

PLAN = ["--preset", "tiny", "--steps", 4, "--eval-every", 2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw", lambda self: None)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text").write_text(TEXT)
    assert pretrain(*PLAN, "--data", folder / "text", "--out", folder / "run") == 0
    return folder / "run"


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- one writer


@pytest.mark.slow
def test_a_second_process_is_refused_and_disturbs_nothing(copy, run, tmp_path, monkeypatch):
    """Both when the first has just begun the run and when it has resumed it; who only reads needs no lock."""
    pytest.importorskip("fcntl", reason="this system has no such locks")
    refused = []

    def second(folder):
        before = contents(folder)
        command = [sys.executable, small_run.__file__, "--resume", str(folder), "--steps", "30"]
        ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
        assert ended.returncode == 2
        assert f"error: another process is writing to {folder}: process {os.getpid()} on " in ended.stderr
        refused.append(folder)
        assert contents(folder) == before
        assert RunFolder(folder).log.records

    with monkeypatch.context() as patch:
        after_update(patch, lambda step: step == 4 and second(tmp_path / "new"))
        assert pretrain(*PLAN, "--data", run.parent / "text", "--out", tmp_path / "new") == 0
    with monkeypatch.context() as patch:
        after_update(patch, lambda step: step == 5 and second(copy))
        assert pretrain("--resume", copy, "--steps", 6) == 0
    assert refused == [tmp_path / "new", copy]
    assert results(tmp_path / "new") == results(run)
    assert pretrain("--resume", copy, "--steps", 7) == 0  # the lock went with the training
    assert not list(tmp_path.rglob(LOCK))


def test_a_run_is_locked_before_it_is_trained(copy, tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such locks")
    run, *_ = resumed(RunFolder, copy, steps=6, device="cpu")
    new = RunFolder.create(tmp_path / "new", run.model_config, run.train_config, run.tokenizer)
    for path in (run.path, new.path):
        with pytest.raises(ConfigError, match=f"another process is writing to {path}: process {os.getpid()} on "):
            FolderLock(path).acquire()


def test_a_resume_that_fails_releases_the_lock(copy):
    kept = []
    for _ in range(2):
        with pytest.raises(ConfigError, match="is finished, at step 4") as caught:
            small_run.example("pretrain_shakespeare").command("", {}, None, None, ["--resume", str(copy)])
        kept.append(caught)  # with its frames
    assert LOCK not in [path.name for path in copy.iterdir()]


def test_two_that_begin_in_one_folder_at_once(run, tmp_path, monkeypatch, capsys):
    """The second has found the folder free when the first makes its run there."""
    pytest.importorskip("fcntl", reason="this system has no such locks")
    out, checks = tmp_path / "new", []

    def raced(path):
        check_free(path)
        checks.append(path)
        if len(checks) == 3:  # in RunFolder.create of the second: it looks for the first time
            (out / "config.json").parent.mkdir()
            (out / "config.json").write_text("of the first")

    monkeypatch.setattr("tinygrad_lm.train.run.check_free", raced)
    monkeypatch.setattr("tinygrad_lm.train.command.check_free", raced)
    checks.append(None)
    assert pretrain(*PLAN, "--data", run.parent / "text", "--out", out) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err
    assert contents(out) == {(out / "config.json").relative_to(out): b"of the first"}


def test_a_lock_that_was_left_leaves_a_folder_free(tmp_path):
    """As after a kill between making the folder and config.json."""
    (tmp_path / LOCK).write_text("process 1 on here\n")
    check_free(tmp_path)


# ---- config.json


def test_a_change_anywhere_in_config_json_is_noticed(copy):
    """But for one that changes nothing the file says, and its own seal's name."""
    path = copy / "config.json"
    content, config = path.read_bytes(), RunFolder(copy).config
    for place in range(content.index(b"\n", 90), len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert RunFolder(copy).config == config
        except CheckpointError:
            continue
    path.write_bytes(content)


def test_a_changed_number_stops_a_resume_before_it_writes(copy, capsys):
    path = copy / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"start": ', b'"start": 1'))
    before = contents(copy)
    assert pretrain("--resume", copy, "--steps", 6) == 2
    told = capsys.readouterr().err
    assert re.search(rf"error: run: {path} is damaged: expected the seal \w+, found \w+; the file was changed\n", told)
    assert 'if it was changed on purpose, delete its entry "seal"' in told
    assert contents(copy) == before


def test_a_run_without_a_seal_is_read_and_gets_one(copy, run):
    """One of an earlier version, or changed on purpose."""
    config = unsealed(json.loads((copy / "config.json").read_bytes()))
    (copy / "config.json").write_text(json.dumps(config, indent=1))
    assert RunFolder(copy).config == config
    assert pretrain("--resume", copy, "--steps", 6) == 0
    config["train"] |= {"steps": 6, "seconds": 0.0}
    assert (copy / "config.json").read_bytes() == sealed_json(config, indent=1)


# ---- log.jsonl


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda line: line.replace(b'"loss"', b'"lo\xffs"'), "'utf-8' codec can't decode byte 0xff"),
        (lambda line: line[:-5], "Expecting"),
        (lambda line: b"", "Expecting value"),
        (lambda line: bytes(len(line)), "Expecting value"),
        (lambda line: b"[]", r"expected a JSON object, found \[\]"),
        (lambda line: line.replace(b'"step": 2', b'"stop": 2'), "step must be a number of updates, found None"),
        (lambda line: line.replace(b'"step": 2', b'"step": -2'), "step must be a number of updates, found -2"),
        (lambda line: line.replace(b'"step": 2', b'"step": "2"'), "step must be a number of updates, found '2'"),
        (lambda line: line.replace(b'"norm": ', b'"norm": true, "x": '), "norm must be a number, found True"),
        (lambda line: line.replace(b'"norm": ', b'"sources": '), r"sources must be an object, found \d"),
    ],
    ids=["byte", "cut", "empty", "zeros", "list", "no-step", "negative", "text", "boolean", "sources"],
)
def test_a_damaged_line_is_reported_with_its_number(damage, problem, copy, capsys):
    path = copy / "log.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage(lines[1])
    path.write_bytes(b"\n".join(lines))
    before = contents(copy)
    assert pretrain("--resume", copy, "--steps", 6) == 2
    told = capsys.readouterr().err
    assert re.search(rf"error: run: line 2 of {path} is damaged: {problem}.*\n  hint : restore the file from", told)
    assert contents(copy) == before
    RunFolder(copy).best_model()  # the weights do not depend on it


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"step": 2, "loss"', b'"step": 3, "loss"', "seconds of step 2, found that of step 3"),
        (b'"seconds"', b'"secunds"', "seconds of step 4, found none"),
    ],
    ids=["another step", "no time"],
)
def test_a_run_whose_log_lacks_a_step_is_not_resumed(old, new, problem, copy, capsys):
    path = copy / "log.jsonl"
    head, found, tail = path.read_bytes().rpartition(old)
    path.write_bytes(head + new + tail)
    before = contents(copy)
    assert found
    assert pretrain("--resume", copy, "--steps", 6) == 2
    assert f"error: run: {path} is damaged: expected a line with {problem}\n" in capsys.readouterr().err
    assert contents(copy) == before


def test_the_log_is_on_the_disk_before_a_checkpoint_is(copy, monkeypatch):
    """A power cut must not leave a checkpoint of steps that the log has lost."""
    synced, fsync = [], os.fsync

    def watched(descriptor):
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    run = RunFolder(copy)
    _, state = run.read_checkpoint()
    run.log.write(step=5, loss=1.0)
    monkeypatch.setattr(os, "fsync", watched)
    run.write_checkpoint(state, 5)
    log = (copy / "log.jsonl").stat()
    assert synced[0] == (log.st_ino, log.st_size)
