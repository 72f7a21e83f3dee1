"""A rank fails, at any place: the job ends, says which rank it was and where, and the run goes on on one process.

Each case is a job of a real MPI, so most are slow. Where nothing is said, hanging jobs end by the limit of `launch`.
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import product

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

STATUS = {"raise": 1, "sys.exit": 3, "os._exit": 3, "SIGKILL": 137, "SIGSTOP": 1, "SIGTERM": 143, "hang": 1}
RANKS = {"connect": 0, "start": 1, "forward": 1, "exchange": 0, "evaluation": 1, "save": 1, "write": 0}
QUICK = {("SIGKILL", "write")}
CASES = [
    pytest.param(fault, place, id=f"{fault}, {place}", marks=[] if (fault, place) in QUICK else pytest.mark.slow)
    for place, fault in [*product(PLACES, STATUS), ("exchange", "other call")]  # neighbours wait for different things
]
AT_ONCE, AHEAD = 4, 8  # jobs that run, most of them waiting for one of their ranks; jobs begun before their test


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


@pytest.fixture(scope="module")
def job_of(begun, tmp_path_factory, request):
    """job_of(test): the run that a test's job has resumed, and the job when it has ended. Those of the tests that come
    next are started with it."""
    tests = [item for item in request.session.items if getattr(item, "function", None) is test_one_rank_fails]
    jobs = {}

    def started(fault, place):
        run = shutil.copytree(begun, tmp_path_factory.mktemp("job") / "run")
        words = "faulty_run.py", fault, place, RANKS[place], "--resume", run
        return run, launch(2, *words, ours=place == "connect", TINYGRAD_LM_TIMEOUT="3")

    with ThreadPoolExecutor(AT_ONCE) as pool:

        def job_of(test):
            first = tests.index(test)
            for one in tests[first : first + AHEAD]:
                if one not in jobs:
                    jobs[one] = pool.submit(started, **one.callspec.params)
            return jobs[test].result()

        yield job_of
        pool.shutdown(cancel_futures=True)  # the other tests run elsewhere


@pytest.mark.parametrize(("fault", "place"), CASES)
def test_one_rank_fails(fault, place, begun, job_of, request, monkeypatch):
    monkeypatch.setattr(RunFolder, "draw", lambda self: None)
    run, job = job_of(request.node)
    rank, connected = RANKS[place], place != "connect"
    said, trained = job.stdout + job.stderr, place not in ("connect", "start")
    (name,) = re.findall(rf"^error: rank {rank}\b.*", said, re.MULTILINE) or [""]
    # MPICH's launcher may have that of a rank that it has killed itself
    assert job.returncode in (STATUS.get(fault, 1), 9), said
    if fault in ("raise", "sys.exit") and connected:
        assert name == f"error: rank {rank}: Traceback (most recent call last):"
        assert f"error: rank {1 - rank}: Traceback" not in said
        assert "in acting" in said
    elif fault == "SIGTERM" and trained:
        assert said.count("stopped by SIGTERM and saved") == 1
    elif fault == "SIGSTOP" and connected:
        assert f"error: rank {1 - rank}: rank {rank} has given no sign of life for 3 s\n" in said
        assert "this process is here:\n" in said
    elif fault == "hang" and connected:
        assert name == f"error: rank {rank}: rank {1 - rank} cannot go on because of this rank"
        assert "in acting" in said  # where it alone is; what two ranks say at once the launcher mixes
    elif fault == "other call":
        calls = rf"gather, that of rank {1 - rank} add_up|add_up, that of rank {rank} gather"
        assert re.search(rf"error: rank \d: call \d+ of this rank is ({calls}): they do not run the same program", said)
        assert "in acting" in said
    elif fault in ("SIGSTOP", "hang"):
        assert name.endswith("has not come to the others, which have waited for it for 3 s")
        assert fault == "SIGSTOP" or "in acting" in said
    else:
        how = {"SIGKILL": "was ended by signal 9 (Killed)", "SIGTERM": "was ended by signal 15 (Terminated)"}
        how = how.get(fault, f"ended with status {STATUS[fault]}")
        assert name.endswith(f"{how} {'without a word' if connected else 'before it had come to the others'}")
        if connected:
            (numbers,) = re.findall(r"^ranks   processes (\d+), (\d+) on ", said, re.MULTILINE)
            assert f"(process {numbers[rank]} on " in name
    with FolderLock(run, wait=True):  # MPICH's launcher may end a moment before the last process that it kills
        pass
    newest, _ = checkpoint.read_checkpoint(run / "checkpoints")
    assert newest["step"] >= 3
    assert pretrain("--resume", run) == 0
    assert results(run) == results(begun.parent / "whole")
