"""A run that is killed, or finds the disk full, at each thing that it asks of the file system: it goes on bit for bit,
or says why it cannot.

Run as a program this file is the victim, as in test_checkpoint.py: it forks a process for each of these things.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interruptions import at_call, disk_full, kill, needs_fork
from slow import slow_but
from small_run import TEXT, pretrain, results

from tinygrad_lm.locks import LOCK
from tinygrad_lm.train.run import RunFolder

ROOT = Path(__file__).parents[2]
PLAN = ["--preset", "tiny", "--steps", 2, "--eval-every", 1]
REFUSED = "is not the folder of a run", "holds no whole checkpoint", "is damaged"
FIRST = 3  # the number of the first of these things that is tried


def no_pictures():
    RunFolder.draw = lambda self: None


def victim(folder, act, what, first, every):
    """Begin a run, or resume one to more steps, over and over, stopped at each of `every` things from the first on."""
    os.fsync = lambda descriptor: None  # a killed process loses nothing that it has handed over
    no_pictures()
    begin(folder, folder / "first")  # so that the children need not import what it needs
    shutil.rmtree(folder / "first")
    for k in itertools.count(first, every):
        here = folder / f"{what}-{k}"
        if what == "resumed":
            shutil.copytree(folder / "run", here)
        if (child := os.fork()) == 0:
            at_call(k, act)
            try:
                os._exit(begin(folder, here) if what == "new" else go_on(here))
            except BaseException:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        (folder / f"{here.name}.status").write_text(str(os.waitstatus_to_exitcode(status)))
        if status == 0:
            return


def begin(folder, here):
    return pretrain(*PLAN, "--data", folder / "text", "--out", here)


def go_on(here):
    return pretrain("--resume", here, "--steps", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two steps, and the same of three."""
    folder = tmp_path_factory.mktemp("every_call")
    (folder / "text").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw", lambda self: None)
        patch.setattr(os, "fsync", lambda descriptor: None)
        assert begin(folder, folder / "run") == 0
        shutil.copytree(folder / "run", folder / "more")
        assert go_on(folder / "more") == 0
        yield folder


@needs_fork
@pytest.mark.parametrize("every", [1000, pytest.param(4, marks=pytest.mark.slow)], ids=["one", "one in four"])
@pytest.mark.parametrize("what", slow_but(["new", "resumed"], "new"))
@pytest.mark.parametrize("act", slow_but(["kill", "disk_full"], "kill"))
def test_it_goes_on_or_says_why_not(act, what, every, folder, capsys):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])}
    command = [sys.executable, __file__, folder, act, what, str(FIRST), str(every)]
    subprocess.run(command, env=environment, check=True, timeout=1000, stdout=subprocess.DEVNULL)
    expected = folder / ("run" if what == "new" else "more")
    statuses = {path: int(path.read_text()) for path in folder.glob(f"{what}-*.status")}
    assert len(statuses) >= 2 + 40 // every
    stopped = -signal.SIGKILL if act == "kill" else 2
    assert {*statuses.values()} == {0, stopped}
    for path, status in statuses.items():
        here = path.with_suffix("")
        path.unlink()
        if status == stopped:
            goes_on_or_says_why_not(here, what, capsys)
        if here.exists() and any(here.glob("checkpoints/step-*")):
            assert results(here) == results(expected), here.name
            assert not list(here.rglob(LOCK)), here.name
        shutil.rmtree(here, ignore_errors=True)


def goes_on_or_says_why_not(here, what, capsys):
    before = any(here.glob("checkpoints/step-*"))
    capsys.readouterr()
    status = pretrain("--resume", here) if what == "new" else go_on(here)
    told = capsys.readouterr().err
    if "is finished" in told:
        return
    if status:
        assert not before, f"{here.name}: {told}"
        assert any(reason in told for reason in REFUSED), f"{here.name}: {told}"


if __name__ == "__main__":
    folder, act, what, first, every = sys.argv[1:]
    victim(Path(folder), {"kill": kill, "disk_full": disk_full}[act], what, int(first), int(every))
