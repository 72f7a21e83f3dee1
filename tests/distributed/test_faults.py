"""A rank fails, at any place: the job ends, says which rank it was and where, and the run goes on on one process.

Each case is a job of a real MPI, so most are slow. Where nothing is said, hanging jobs end by the limit of `launch`.
"""

import re
import shutil

import pytest
from faulty_run import PLACES
from small_job import PLAN, launch, prepare
from small_run import after_update, pretrain, results

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

STATUS = {"raise": 1, "sys.exit": 3, "os._exit": 3, "SIGKILL": 9, "SIGSTOP": 1, "SIGTERM": 143, "hang": 1}
RANKS = {"connect": 0, "start": 1, "forward": 1, "exchange": 0, "evaluation": 1, "save": 1, "write": 0}
QUICK = {("raise", "forward"), ("SIGKILL", "write"), ("SIGSTOP", "exchange"), ("hang", "evaluation")}
CASES = [
    pytest.param(fault, place, id=f"{fault}, {place}", marks=[] if (fault, place) in QUICK else pytest.mark.slow)
    for fault in STATUS
    for place in PLACES
]


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that ended without notice after step 4, of which step 3 is saved; and `whole`, the same without an end."""
    folder = tmp_path_factory.mktemp("faults")
    prepare(folder)
    plan = [*PLAN, "--data", folder / "text", "--out"]

    def gone(step):
        if step == 4:
            raise Gone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw", lambda self: None)
        assert pretrain(*plan, folder / "whole") == 0
        after_update(patch, gone)
        with pytest.raises(Gone):
            pretrain(*plan, folder / "begun")
    return folder / "begun"


@pytest.mark.parametrize(("fault", "place"), CASES)
def test_one_rank_fails(fault, place, begun, tmp_path, monkeypatch):
    monkeypatch.setattr(RunFolder, "draw", lambda self: None)
    run, rank = shutil.copytree(begun, tmp_path / "run"), RANKS[place]
    job = launch(2, "faulty_run.py", fault, place, rank, "--resume", run, TINYGRAD_LM_TIMEOUT="5")
    said, connected = job.stdout + job.stderr, place != "connect"
    trained = place not in ("connect", "start")
    assert job.returncode == (15 if fault == "SIGTERM" and not trained else STATUS[fault]), said
    if fault in ("raise", "sys.exit") and connected:
        assert said.count(f"error: rank {rank}: Traceback (most recent call last):\n") == 1
        assert f"error: rank {1 - rank}: Traceback" not in said
        assert "in acting" in said
    elif fault == "SIGTERM" and trained:
        assert said.count("stopped by SIGTERM and saved") == 1
    elif fault in ("SIGKILL", "SIGTERM") and connected:
        (numbers,) = re.findall(r"^ranks   processes (\d+), (\d+) on ", said, re.MULTILINE)
        assert f"PID {numbers[rank]} RUNNING AT " in said
    elif fault == "SIGSTOP" and connected:
        assert f"error: rank {1 - rank}: rank {rank} has given no sign of life for 5 s\n" in said
        assert "this process is here:\n" in said
    elif fault == "hang" and connected:
        assert f"error: rank {rank}: the others have been waiting for this rank for 10 s" in said
        assert "in acting" in said  # where it alone is; what two ranks say at once the launcher mixes
    elif fault in ("SIGSTOP", "hang"):  # where the other one is
        assert "Timeout (0:00:05)!\n" in said
        assert "in mpi_world" in said
    with FolderLock(run, wait=True):  # MPICH's launcher may end a moment before the last process that it kills
        pass
    newest, _ = checkpoint.read_checkpoint(run / "checkpoints")
    assert newest["step"] >= 3
    assert pretrain("--resume", run) == 0
    assert results(run) == results(begun.parent / "whole")
