"""How a process joins a job and leaves it: its cores, what is wrong with launchers, who ends whom. No MPI is needed."""

import os
import sys
from contextlib import suppress
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thread_ranks import together

from tinygrad_lm.distributed import __main__ as launching
from tinygrad_lm.distributed import job
from tinygrad_lm.distributed.job import all_come, end, introduced, mpi_world, part
from tinygrad_lm.distributed.launcher import MARKS, SIZES, find_launcher
from tinygrad_lm.distributed.supervisor import HINT, TIMEOUT, WAITING
from tinygrad_lm.errors import ConfigError, DivergedError

LAUNCHERS = {
    "MPICH": "HYDRA build details:\n    Version:                                 5.0.2",
    "Open MPI 4": "mpiexec (OpenRTE) 4.1.4",
    "Open MPI 5": "mpiexec (Open MPI) 5.0.11",
}


# ---- cores


@given(cores=st.lists(st.integers(0, 99), min_size=1, unique=True), size=st.integers(1, 12))
def test_processes_of_a_machine_divide_its_cores(cores, size):
    """Each core has one of them, and they have as many each; or one, that several share evenly, if there are more."""
    parts = [part(cores, rank, size) for rank in range(size)]
    counts = [len(each) for each in parts]
    if size <= len(cores):
        assert [core for each in parts for core in each] == cores
        assert max(counts) - min(counts) <= 1
    else:
        assert set(counts) == {1}
        shared = [parts.count([core]) for core in cores]
        assert max(shared) - min(shared) <= 1


# ---- joining


@pytest.fixture
def started(monkeypatch):
    """started(size, **variables): MPI as it is for a process that was started with these variables."""

    def started(size, **variables):
        for name in (*MARKS, *SIZES):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        package, MPI = ModuleType("mpi4py"), ModuleType("mpi4py.MPI")
        package.MPI, MPI.COMM_WORLD = MPI, SimpleNamespace(size=size)
        for module in (package, MPI):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return MPI.COMM_WORLD

    return started


def test_a_process_that_no_launcher_started_does_without_mpi(started, monkeypatch):
    started(4)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert mpi_world() is None


@pytest.mark.parametrize("mark", ["PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"])
def test_one_of_several_joins_them(mark, started):
    comm = started(2, **{mark: "1"})
    assert mpi_world() is comm


@pytest.mark.parametrize("mark", ["PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"])
def test_a_job_of_one_process_is_none(mark, started):
    started(1, **{mark: "0"})
    assert mpi_world() is None


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_that_do_not_see_each_other(name, started):
    """The launcher is of another MPI: each would train alone, all in one folder."""
    comm = started(4, **{name: "4"})
    assert mpi_world() is comm
    started(1, **{name: "4"})
    with pytest.raises(ConfigError, match=r"(?s)4 processes were started, of which MPI sees 1\n  hint : .*srun --mpi="):
        mpi_world()


def test_without_mpi4py_it_says_what_to_install(started, monkeypatch):
    started(2, PMI_RANK="0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"(?s)started by a launcher .* cannot be used: .*\n  hint : pip install"):
        mpi_world()


def test_without_a_library_of_mpi_it_says_so(started, monkeypatch):
    """mpi4py raises RuntimeError where it finds none."""

    class Finder:
        def find_spec(self, name, path, target=None):
            if name == "mpi4py":
                raise RuntimeError("cannot load MPI library")

    started(2, PMI_RANK="0")
    monkeypatch.delitem(sys.modules, "mpi4py")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ConfigError, match="mpi4py cannot be used: cannot load MPI library"):
        mpi_world()


def test_it_says_which_process_is_which_rank(monkeypatch):
    """Their machines, in the order of ranks."""
    numbers, nodes = iter([11, 12, 21, 22]), iter("aabb")
    texts = together(4, lambda rank: introduced(Introducing(rank, next(nodes), next(numbers), monkeypatch)))
    assert set(texts) == {"processes 11, 12 on a; processes 21, 22 on b"}


class Introducing:
    """A rank's communicator that says of itself what it is given."""

    def __init__(self, rank, node, number, monkeypatch):
        self.rank, self.said = rank, f"{node} {number}"

    def texts(self, text):
        assert text.split()[1] == str(os.getpid())
        return self.rank.texts(self.said)


# ---- leaving


class Barrier:
    """A comm whose barrier the others enter after so many looks; each look takes a time."""

    def __init__(self, looks):
        self.looks = looks

    def Ibarrier(self):
        return self

    def Test(self):
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize(("looks", "come"), [(0, True), (4, True), (6, False), (10**9, False)])
def test_others_are_waited_for_a_while(looks, come, monkeypatch):
    now = [50.0]
    sleep = lambda seconds: now.__setitem__(0, now[0] + job.GRACE / 4)
    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    assert all_come(Barrier(looks)) == come


@pytest.fixture
def ending(monkeypatch, tmp_path):
    """ending(error): what `end` prints on rank 3, the status that it aborts with, and that of the process."""

    def ending(error):
        statuses = []
        comm = SimpleNamespace(rank=3, Abort=statuses.append)
        monkeypatch.setattr(job.os, "_exit", statuses.append)
        with open(tmp_path / "errors", "w+") as stream:
            end(comm, error, stream)
            stream.seek(0)
            return stream.read(), statuses

    return ending


def test_an_error_that_one_rank_has_is_printed_with_its_name(ending):
    assert ending(DivergedError("the loss is nan")) == (f"error: rank 3: the loss is nan\n{HINT}\n", [1, 1])
    text, statuses = ending(OSError(28, "No space left on device"))
    assert text == f"error: rank 3: [Errno 28] No space left on device\n{HINT}\n"
    assert statuses == [2, 2]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyError("planted"), 1), (SystemExit(3), 3), (KeyboardInterrupt(), 130)]
)
def test_one_that_nobody_expected_is_printed_with_its_place(error, status, ending):
    with suppress(type(error)):
        raise error
    text, statuses = ending(error)
    assert text.startswith("error: rank 3: Traceback (most recent call last):\n")
    assert "in test_one_that_nobody_expected_is_printed_with_its_place" in text
    assert f"\n{type(error).__name__}" in text
    assert statuses == [status, status]


def test_the_first_goes_before_the_others():
    """What it does is done where they go on, and its error is theirs."""
    done = []

    def act(rank, error=None):
        if rank.rank:
            rank.follow()
        else:
            with rank.leading():
                if error:
                    raise error
                done.append(rank)
        return len(done)

    assert together(3, act) == [1, 1, 1]
    found = []

    def refused(rank):
        with pytest.raises(ConfigError, match="the folder is locked") as caught:
            act(rank, ConfigError("the folder is locked"))
        found.append(str(caught.value))

    together(3, refused)
    assert found == ["the folder is locked"] * 3


# ---- the launcher


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """environment(version, beside): a Python, and mpiexec with this version beside it, or else in the path."""

    def environment(version, beside=True):
        for name in ("bin", "elsewhere"):
            (tmp_path / name).mkdir()
        path = tmp_path / ("bin" if beside else "elsewhere") / "mpiexec"
        if version is not None:
            path.write_text(f"#!/bin/sh\ncat << END\n{version}\nEND\n")
            path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
        monkeypatch.setenv(
            "PATH", f"{tmp_path / 'elsewhere'}:/usr/bin:/bin" if version else str(tmp_path / "elsewhere")
        )
        return str(path)

    return environment


@pytest.mark.parametrize("beside", [True, False], ids=["beside Python", "in the path"])
@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_launcher_and_what_it_wants(name, beside, environment):
    """Open MPI wants to be told that it may work as root, and that there may be more processes than cores."""
    path = environment(LAUNCHERS[name], beside)
    found, variables = find_launcher()
    assert found == path
    if name == "MPICH":
        assert variables == {}
    else:
        assert variables["OMPI_ALLOW_RUN_AS_ROOT"] == variables["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
        assert variables["OMPI_MCA_rmaps_base_oversubscribe"] == "1"
        assert variables["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"


def test_this_environments_launcher_comes_first(environment, tmp_path):
    path = environment(LAUNCHERS["MPICH"])
    (tmp_path / "elsewhere" / "mpiexec").write_text("#!/bin/sh\necho of another\n")
    (tmp_path / "elsewhere" / "mpiexec").chmod(0o755)
    assert find_launcher() == (path, {})


def test_the_program_becomes_the_launcher(environment, monkeypatch):
    """With the program's own arguments, the time limit and the launcher's quirks; its status is the job's."""
    path, calls = environment(LAUNCHERS["Open MPI 5"]), []
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(os, "execv", lambda *words: calls.append(words))
    launching.main(["-n", "4", "--timeout", "2.5", __file__, "-n", "7", "--timeout", "9"])
    ((executed, words),) = calls
    assert executed == path
    supervised = [path, "-n", "4", sys.executable, "-m", "tinygrad_lm.distributed.supervisor"]
    assert words == [*supervised, __file__, "-n", "7", "--timeout", "9"]
    assert os.environ[TIMEOUT] == "2.5"
    assert os.environ["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert not os.path.exists(os.environ[WAITING])


def test_a_command_is_a_program_too(environment, monkeypatch):
    """From a wheel nobody knows where the file is."""
    path, calls = environment(LAUNCHERS["MPICH"]), []
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(os, "execv", lambda *words: calls.append(words))
    launching.main(["-n", "2", "train", "--minutes", "1"])
    assert calls[0][1][-5:] == ["-m", "tinygrad_lm", "train", "--minutes", "1"]
    assert calls[0][0] == path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0", "a.py"], "-n must be at least 1, found 0"),
        (["-n", "2", "--timeout", "soon", "a.py"], "TINYGRAD_LM_TIMEOUT must be a positive number of seconds"),
        (["-n", "2", "a.py"], "there is no mpiexec, which starts the processes: pip install 'tinygrad-lm[mpi]'"),
        (["-n", "2", "a.py"], "a.py is neither a file nor a command of tinygrad-lm"),
        (["-n", "2", "trian"], "trian is neither a file nor a command of tinygrad-lm"),
    ],
)
def test_what_cannot_be_started_is_said(arguments, message, environment, monkeypatch, capsys):
    environment(None if "mpiexec" in message else LAUNCHERS["MPICH"])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(os, "execv", lambda *words: pytest.fail("it was started"))
    assert launching.main(arguments) == 2
    assert f"error: {message}" in capsys.readouterr().err
