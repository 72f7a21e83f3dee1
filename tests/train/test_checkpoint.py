"""Checkpoints under everything that can happen to them: kills, full disks, damage.

Run as a program this file is the victim: it forks a process for each thing that saving asks of the file system, and
lets that process die (or find the disk full) there. The tests look at what is left.
"""

import hashlib
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interruptions import at_call, disk_full, kill, needs_fork

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.files import seal
from tinygrad_lm.train import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def no_disk():
    """These tests save hundreds of times and cut no power: nobody waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def arrays(step):
    """What a checkpoint of this step holds: several dtypes, no axes, empty."""
    rng = np.random.default_rng(step)
    return {
        "model": {"a": rng.standard_normal((3, 4)).astype("float32"), "b.c": rng.standard_normal(5)},
        "optimizer": {"m": rng.standard_normal(12), "t": np.array(step), "none": np.zeros((0, 2), "float32")},
    }


def save(folder, step, validation=None):
    return checkpoint.write_checkpoint(folder, step, arrays(step), {"validation": validation, "vocabulary": "abc"})


def is_step(loaded, step):
    """Is that the checkpoint of this step, and every bit of it?"""
    manifest, groups = loaded
    assert manifest["step"] == step
    for name, expected in arrays(step).items():
        assert groups[name].keys() == expected.keys()
        for key, x in expected.items():
            assert groups[name][key].dtype == x.dtype
            assert groups[name][key].tobytes() == x.tobytes()
            assert groups[name][key].shape == x.shape
    return True


def steps_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# ---- the victim


def victim(folder, act):
    """Save step 3 over and over, each time into a folder of its own, stopped at the first, second, … call."""
    os.fsync = lambda descriptor: None  # a killed process loses nothing that it has handed over
    for k in itertools.count(1):
        here = Path(folder) / str(k)
        save(here, 1)
        save(here, 2)
        if (child := os.fork()) == 0:
            at_call(k, act)
            try:
                save(here, 3)
            except CheckpointError:
                os._exit(2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        (here / "status").write_text(str(os.waitstatus_to_exitcode(status)))
        if status == 0:
            return


def outcomes(folder, act):
    """(folder, exit status) for each place to be stopped at."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])}
    subprocess.run([sys.executable, __file__, folder, act], env=environment, check=True, timeout=120)
    folders = sorted(folder.iterdir(), key=lambda path: int(path.name))
    assert len(folders) > 12  # three files are made and synced, two folders, two are made or renamed, …
    return [(path, int((path / "status").read_text())) for path in folders]


@pytest.mark.slow
@needs_fork
def test_killed_anywhere_the_newest_whole_checkpoint_loads(tmp_path):
    *killed, (last, survived) = outcomes(tmp_path, "kill")
    assert survived == 0
    assert {status for _, status in killed} == {-signal.SIGKILL}
    found = []
    for folder in [path for path, _ in killed] + [last]:
        found.append(checkpoint.read_checkpoint(folder)[0]["step"])
        assert is_step(checkpoint.read_checkpoint(folder), found[-1])
        for step in (1, 2) if found[-1] == 2 else (2, 3):
            checkpoint.verify(folder / f"step-{step:06d}")  # the one before is untouched, too
        save(folder, 4)
        assert is_step(checkpoint.read_checkpoint(folder), 4)
        assert len(list(folder.glob("step-*"))) == 2
        assert not list(folder.glob(".*"))  # what the killed process left lying about is gone
    assert found == sorted(found)
    assert set(found) == {2, 3}  # killed before the rename, and after it


@pytest.mark.slow
@needs_fork
def test_a_full_disk_is_an_error_and_leaves_the_earlier_ones(tmp_path):
    *full, (_, survived) = outcomes(tmp_path, "disk_full")
    assert survived == 0
    for folder, status in full:
        assert status == 2  # a CheckpointError, and never another
        for step in (1, 2):
            checkpoint.verify(folder / f"step-{step:06d}")
        assert not list(folder.glob(".*"))  # nothing half-written
        assert is_step(checkpoint.read_checkpoint(folder), checkpoint.read_checkpoint(folder)[0]["step"])


def test_files_that_may_not_grow(tmp_path):
    """A real limit of the operating system this time, met in the middle of a write."""
    resource = pytest.importorskip("resource", reason="this system has no limits to set")
    save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(CheckpointError) as caught:
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot write" in str(caught.value)
    assert "earlier checkpoints are untouched" in str(caught.value)
    assert steps_in(tmp_path) == ["step-000001"]
    assert is_step(checkpoint.read_checkpoint(tmp_path), 1)


def test_everything_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """What a power cut could lose cannot be seen by killing a process: look at what was synced, how long, and when."""
    events, fsync, rename = [], os.fsync, Path.rename

    def watched_fsync(descriptor):
        fsync(descriptor)
        status = os.fstat(descriptor)
        events.append((status.st_ino, status.st_size))

    def watched_rename(path, target):
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    path = save(tmp_path, 1)
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    for file in path.iterdir():
        assert (file.stat().st_ino, file.stat().st_size) in before, f"{file.name} was not synced, or not all of it"
    assert path.stat().st_ino == before[-1][0]  # the folder, when all files are in it
    assert tmp_path.stat().st_ino in [inode for inode, _ in after]


# ---- damage


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0")


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def missing(path):
    path.unlink()


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncated, cut_in_half, emptied, longer, garbage, zeros, missing, a_folder])
@pytest.mark.parametrize("file", ["manifest.json", "model.safetensors", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_loaded(file, damage, tmp_path, capsys):
    save(tmp_path, 1)
    damage(save(tmp_path, 2) / file)
    assert is_step(checkpoint.read_checkpoint(tmp_path), 1)
    assert "step-000002 is damaged" in (told := capsys.readouterr().out)
    assert told.endswith("trying the one before\n")
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.verify(tmp_path / "step-000002")
    damage(tmp_path / "step-000001" / file)
    with pytest.raises(CheckpointError, match="holds no whole checkpoint") as caught:
        checkpoint.read_checkpoint(tmp_path)
    assert str(caught.value).count("is damaged") == 2  # all the problems in one message


@pytest.mark.parametrize("file", ["manifest.json", "model.safetensors"])
def test_one_flipped_bit_anywhere_is_noticed(file, tmp_path):
    """Unless it changes nothing that the file says, such as an e of 1e-05 to E."""
    path = save(tmp_path, 1, validation=1.5e-05)
    manifest, content = checkpoint.verify(path), (path / file).read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (path / file).write_bytes(flipped)
        try:
            assert checkpoint.verify(path) == manifest
        except CheckpointError:
            continue
        assert file == "manifest.json"


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"', "{}", '{"files": {}}', '{"files": 3, "seal": ""}'])
def test_a_manifest_that_is_json_but_no_manifest(text, tmp_path):
    save(tmp_path, 1)
    (save(tmp_path, 2) / "manifest.json").write_text(text)
    for which in ("newest", "best"):
        assert is_step(checkpoint.read_checkpoint(tmp_path, which), 1)


def test_no_checkpoints():
    with pytest.raises(CheckpointError, match="nowhere holds no whole checkpoint"):
        checkpoint.read_checkpoint("nowhere")


# ---- nothing that is loaded can run


class Bomb:
    """Pickled, it makes a file when somebody loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def forge(path, content):
    """The checkpoint with its model replaced, sums and seal fitting: only the content is wrong."""
    manifest = checkpoint.verify(path)
    (path / "model.safetensors").write_bytes(content)
    sums = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["model.safetensors"] = sums
    (path / "manifest.json").write_text(json.dumps(manifest | {"seal": seal(manifest)}))


def test_a_pickle_is_not_loaded(tmp_path):
    bomb, mark = pickle.dumps(Bomb(tmp_path / "exploded")), tmp_path / "exploded"
    pickle.loads(bomb)
    assert mark.exists()  # it works
    mark.unlink()
    save(tmp_path / "run", 1)
    forge(save(tmp_path / "run", 2), bomb)
    assert is_step(checkpoint.read_checkpoint(tmp_path / "run"), 1)
    assert not mark.exists()


@given(content=st.binary(max_size=200) | st.binary(max_size=50).map(lambda x: len(x).to_bytes(8, "little") + x))
def test_random_bytes_are_no_checkpoint(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    forge(save(folder, 1), content)
    with pytest.raises(CheckpointError):
        checkpoint.read_checkpoint(folder)


# ---- which are kept, and which is loaded


@given(losses=st.lists(st.sampled_from([None, 3.0, 2.0, 1.0, 0.0, float("nan")]), min_size=1, max_size=7))
def test_the_two_newest_and_the_best_are_kept(losses, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for step, loss in enumerate(losses):
        save(folder, step, loss)
    numbers = {step: loss for step, loss in enumerate(losses) if loss is not None and loss == loss}
    best = max(step for step in numbers if numbers[step] == min(numbers.values())) if numbers else len(losses) - 1
    newest = range(len(losses))[-2:]
    assert steps_in(folder) == sorted(f"step-{step:06d}" for step in {best, *newest})
    assert is_step(checkpoint.read_checkpoint(folder), len(losses) - 1)
    assert is_step(checkpoint.read_checkpoint(folder, "best"), best)


def test_a_million_steps_come_after_a_hundred_thousand(tmp_path):
    """Names are ordered as numbers, not as letters."""
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        save(tmp_path, step)
    assert is_step(checkpoint.read_checkpoint(tmp_path), 1_000_001)
    assert steps_in(tmp_path) == ["step-1000000", "step-1000001"]


def test_nothing_is_removed_for_a_checkpoint_that_cannot_be_read_back(tmp_path, monkeypatch):
    save(tmp_path, 1)
    save(tmp_path, 2)

    def rename(path, target):
        path.replace(target)
        truncated(target / "model.safetensors")

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(CheckpointError, match="step-000003 is damaged"):
        save(tmp_path, 3)
    for step in (1, 2):
        checkpoint.verify(tmp_path / f"step-{step:06d}")


def test_saving_a_step_again_replaces_it(tmp_path):
    (save(tmp_path, 1) / "model.safetensors").write_bytes(b"damaged")
    save(tmp_path, 1, validation=2.0)
    assert is_step(checkpoint.read_checkpoint(tmp_path), 1)
    assert checkpoint.read_checkpoint(tmp_path)[0]["validation"] == 2.0


if __name__ == "__main__":
    victim(sys.argv[1], {"kill": kill, "disk_full": disk_full}[sys.argv[2]])


def test_a_damaged_checkpoint_is_none_of_the_two(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    truncated(tmp_path / "step-000003" / "model.safetensors")
    save(tmp_path, 4)
    assert len([path for path in tmp_path.glob("step-*") if checkpoint.whole(path)]) >= 2
