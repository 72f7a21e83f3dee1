"""Where workers run: every executor writes the same bytes, and a dead worker is an error with a way to continue.

Dask and Ray are stood in for; the real ones are tested where they are installed.
"""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from make import write_mixture
from small_mixture import Inline, contents, prepare_inline

from tinygrad_lm.curate.pipeline import executors
from tinygrad_lm.curate.pipeline.executors import find_pool
from tinygrad_lm.curate.pipeline.worker import process_batch
from tinygrad_lm.curate.prepare import prepare
from tinygrad_lm.data.__main__ import main
from tinygrad_lm.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """(the example mixture's file with few documents, what an executor within this process makes of it)"""
    folder = tmp_path_factory.mktemp("example")
    mixture = write_mixture(folder, count=20)
    main(["train-tokenizer", folder / "papers.jsonl.zst", "--vocab-size", 300, "--out", folder / "pieces.tiktoken"])
    mixture.write_text(mixture.read_text().replace("documents = 2_000", "documents = 50"))
    return mixture, contents(prepare_inline(mixture, folder / "inline"))


# ---- the same bytes


class Elsewhere(Executor):
    """Like an executor on other machines: all that it is given and gives back is pickled; batches end in any order."""

    def __init__(self, executor):
        self.executor, self.submitted = executor, []

    def submit(self, function, /, *arguments):
        self.submitted.append(function)
        return self.executor.submit(computed, pickle.dumps((function, arguments)))


def computed(content):
    function, arguments = pickle.loads(content)
    return pickle.loads(pickle.dumps(function(*arguments)))


def test_an_executor_on_other_machines_writes_the_same_bytes(example, tmp_path):
    mixture, expected = example
    with ThreadPoolExecutor(2) as threads:
        elsewhere = Elsewhere(threads)
        assert contents(prepare(mixture, tmp_path / "out", nullcontext((elsewhere, 2)))) == expected
    assert elsewhere.submitted == [process_batch] * 5  # one batch of each source


def test_a_pool_is_entered_when_there_is_work(example, tmp_path):
    """Not for a finished dataset, and a cluster is left when the work ends."""
    mixture, expected = example
    pool = Counted((Inline(), 1))
    for _ in range(2):
        assert contents(prepare(mixture, tmp_path / "out", pool)) == expected
    assert (pool.entered, pool.left) == (1, 1)


class Counted(nullcontext):
    """A context manager that counts how often it was entered and left."""

    entered = left = 0

    def __enter__(self):
        self.entered += 1
        return super().__enter__()

    def __exit__(self, *error):
        self.left += 1


# ---- real workers: each executor in a program of its own, because MPI ends the program

PROGRAM = '''
"""`prepare` with workers that obey the file "order" beside the mixture file.

order: "die N" (N workers die), "raise" (an error of the worker's own), "signals" (those that mpirun hands on)
"""
import os, signal, sys
from pathlib import Path
from tinygrad_lm.curate.pipeline import pipeline, worker
from tinygrad_lm.data.__main__ import main
from tinygrad_lm.errors import DataError

def process_batch(job, items):
    order = Path(job.folder, "order")
    verb, _, count = order.read_text().partition(" ") if order.exists() else ("live", "", "")
    if verb == "die" and int(count):
        order.write_text(f"die {int(count) - 1}")
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "raise":
        raise DataError("the worker's own error")
    for number in (signal.SIGINT, signal.SIGTERM) if verb == "signals" else ():
        os.kill(os.getpid(), number)
    return worker.process_batch(job, items)

if __name__ == "__main__":
    import program  # so that workers find the function by its name
    pipeline.process_batch = program.process_batch
    mixture, out, executor, *more = sys.argv[1:]
    arguments = ["prepare", mixture, "--out", out, "--executor", executor, *more]
    if executor != "dask":
        sys.exit(main(arguments))
    from distributed import LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        arguments[5] = cluster.scheduler_address.replace("tcp", "dask")
        sys.exit(main(arguments))
'''


@cache
def missing(executor):
    """Why an executor cannot be tested here, or None."""
    library = {"processes": "pytest", "mpi": "mpi4py", "mpirun": "mpi4py", "dask": "distributed"}.get(
        executor, executor
    )
    try:
        metadata.version(library)  # not find_spec, which finds the folder tests/distributed
    except metadata.PackageNotFoundError:
        return f"{library} is not installed"


def run(example, out, executor, order=""):
    """(exit status, standard error) of a preparation whose workers get an order."""
    if missing(executor):
        pytest.skip(missing(executor))
    mixture, folder = example[0], out.parent
    (folder / "program.py").write_text(PROGRAM)
    (mixture.parent / "order").write_text(order)
    python = [sys.executable, folder / "program.py", mixture, out]
    if executor == "mpirun":
        bin = Path(sys.executable).parent
        command = [bin / "mpirun", "-n", "2", python[0], "-m", "mpi4py.futures", *python[1:], "mpi"]
    else:
        command = [*python, executor, *(["--workers", "1"] if executor in ("processes", "mpi") else [])]
    others = [path for path in os.environ["PATH"].split(os.pathsep) if Path(path) != Path(sys.executable).parent]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PATH": os.pathsep.join(others)}
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=100, start_new_session=True
        )
    finally:
        (mixture.parent / "order").unlink()
    return ended.returncode, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "mpi", "dask", "ray"])
def test_dead_workers_are_an_error_and_the_same_command_finishes(example, tmp_path, executor):
    """Clusters begin again three times."""
    status, words = run(example, tmp_path / "out", executor, "die 99")
    assert status == 2
    assert "error: prepare: a worker died: " in words
    assert "the same command resumes" in words
    assert "Traceback (most recent call last)" not in words
    assert run(example, tmp_path / "out", executor)[0] == 0
    assert contents(tmp_path / "out") == example[1]


@pytest.mark.slow
def test_a_dead_rank_ends_mpirun_and_the_same_command_finishes(example, tmp_path):
    assert run(example, tmp_path / "out", "mpirun", "die 1")[0] not in (0, 2)
    assert run(example, tmp_path / "out", "mpirun", "signals")[0] == 0
    assert contents(tmp_path / "out") == example[1]


@pytest.mark.parametrize("executor", ["dask", "ray"])
def test_a_cluster_repeats_what_a_dead_worker_had(example, tmp_path, executor):
    assert run(example, tmp_path / "out", executor, "die 1")[0] == 0
    assert contents(tmp_path / "out") == example[1]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "mpi", "dask", "ray"])
def test_a_workers_own_error_is_the_programs(example, tmp_path, executor):
    status, words = run(example, tmp_path / "out", executor, "raise")
    assert status == 2
    assert words.splitlines()[-1] == "error: the worker's own error"
    assert "Traceback (most recent call last)" not in words


# ---- stand-ins


class KilledWorker(Exception):
    pass


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


class FakeClient(Counted):
    """distributed.Client(address), which gives `executor`."""

    def get_executor(self):
        return self.enter_result

    def nthreads(self):
        return {"tcp://a": 1, "tcp://b": 4}


class FakeRay:
    """Ray, whose remote functions run at once or raise `error`."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, error=None):
        self.executor, self.address, self.running = Failing(error) if error else Inline(), None, False

    def init(self, address, logging_level):
        if address == "ray://host:2":
            raise ConnectionError("timed out")
        self.address, self.running = address, True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray has a handler of its own

    def shutdown(self):
        self.running = False

    def cluster_resources(self):
        return {"CPU": 3.0, "memory": 1e9}

    def remote(self, function):
        def submit(*arguments):
            return SimpleNamespace(future=lambda: self.executor.submit(function, *arguments))

        return SimpleNamespace(remote=submit)


class Failing(Inline):
    """An executor whose futures raise an error."""

    def __init__(self, error):
        self.error = error

    def submit(self, function, /, *arguments):
        future = Future()
        future.set_exception(self.error)
        return future


@pytest.fixture
def plant(monkeypatch):
    """plant(name, module): what `import name` gives."""
    return lambda name, module: monkeypatch.setitem(sys.modules, name, module)


def fake_distributed(client):
    def connect(address):
        if address != "host:1":
            raise OSError("timed out")
        return client

    return SimpleNamespace(Client=connect, KilledWorker=KilledWorker)


def test_dask(example, tmp_path, plant):
    mixture, expected = example
    client = FakeClient(Inline())
    plant("distributed", fake_distributed(client))
    assert contents(prepare(mixture, tmp_path / "out", find_pool("dask://host:1"))) == expected
    assert (client.entered, client.left) == (1, 1)
    with find_pool("dask://host:1") as (_, workers):
        assert workers == 2  # however many threads each has
    with pytest.raises(DataError, match="no Dask scheduler answers at host:2: timed out"), find_pool("dask://host:2"):
        pass


@pytest.mark.parametrize(("name", "address"), [("ray", None), ("ray://host:1", "ray://host:1")])
def test_ray(example, tmp_path, plant, name, address):
    mixture, expected = example
    ray = FakeRay()
    plant("ray", ray)
    before = signal.getsignal(signal.SIGTERM)
    assert contents(prepare(mixture, tmp_path / "out", find_pool(name))) == expected
    assert (ray.address, ray.running) == (address, False)
    with find_pool(name) as (executor, workers):
        assert isinstance(executor, Executor)
        assert workers == 3
        assert signal.getsignal(signal.SIGTERM) == before
        assert ray.running
    with pytest.raises(DataError, match="no Ray cluster answers: timed out"), find_pool("ray://host:2"):
        pass


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("dask://host:1", KilledWorker("task-1"), "prepare: a worker died: task-1\n.*the same command resumes"),
        (
            "dask://host:1",
            CancelledError(),
            "prepare: a worker died: the scheduler has ended\n.*the same command resumes",
        ),
        ("ray", RayError("crashed"), "prepare: a worker died: crashed\n.*the same command resumes"),
        ("ray", RayTaskError(DataError("no table")), "^no table$"),
        ("dask://host:1", DataError("no table"), "^no table$"),
    ],
    ids=["dask-death", "dask-end", "ray-death", "ray-own", "dask-own"],
)
def test_what_clusters_raise(example, tmp_path, plant, name, error, expected):
    mixture, whole = example
    ray, client = FakeRay(error), FakeClient(Failing(error))
    plant("ray", ray)
    plant("distributed", fake_distributed(client))
    with pytest.raises(DataError, match=expected):
        prepare(mixture, tmp_path / "out", find_pool(name))
    assert client.left == client.entered
    assert not ray.running
    assert contents(prepare_inline(mixture, tmp_path / "out")) == whole


# ---- what is asked for


@pytest.mark.parametrize("name", ["threads", "dask", "dask://", "ray://", "mpi://host:1", "processes://", ""])
def test_an_unknown_executor_is_refused(name):
    with pytest.raises(ConfigError, match=f"--executor: expected processes, mpi, dask://HOST:PORT, .* found {name}$"):
        find_pool(name)


@pytest.mark.parametrize("workers", [0, -1])
@pytest.mark.parametrize("name", ["processes", "mpi", "ray"])
def test_no_workers_are_refused(name, workers):
    with pytest.raises(ConfigError, match=f"--workers: expected 1 or more, found {workers}"):
        find_pool(name, workers)


@pytest.mark.parametrize("name", ["dask://host:1", "ray", "ray://host:1"])
def test_a_cluster_has_its_own_number_of_workers(name):
    with pytest.raises(ConfigError, match=f"--workers: {name} has its own number of workers"):
        find_pool(name, 2)


@pytest.mark.parametrize(
    ("name", "library", "package"),
    [
        ("mpi", "mpi4py.MPI", r"'tinygrad-lm\[mpi\]'"),
        ("dask://host:1", "distributed", "distributed"),
        ("ray", "ray", "ray"),
    ],
    ids=["mpi", "dask", "ray"],
)
def test_a_missing_library_is_named(plant, monkeypatch, name, library, package):
    plant(library, None)
    monkeypatch.setattr(executors, "apart", nullcontext)  # so that MPI does not fork the tests
    with (
        pytest.raises(ConfigError, match=f"--executor: .*{library.split('.')[0]}.*; pip install {package}$"),
        find_pool(name),
    ):
        pass


def test_mpi_without_its_launcher_is_refused(monkeypatch):
    """MPICH would wait for it without end."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with (
        pytest.raises(ConfigError, match=r"there is no mpiexec, .*: pip install 'tinygrad-lm\[mpi\]'"),
        find_pool("mpi"),
    ):
        pass


# ---- a process apart

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
APART = """
import os, signal, sys, time
from concurrent.futures import BrokenExecutor
from tinygrad_lm.curate.pipeline.executors import apart

parent = os.getpid()
print("once")
try:
    with apart():
        assert os.getsid(0) == os.getpid() != parent
        {body}
except BrokenExecutor as error:
    assert os.getpid() == parent
    print(error)
    sys.exit(9)
print("after")
"""


STOPS = "signal.signal({0}, lambda *_: sys.exit({1})); os.kill(parent, {0}); time.sleep(60)"
ENDS = {  # {case: (what the process does, the other's exit status, what is printed)}
    "ends": ("pass", 0, "once\nafter\n"),
    "exits": ("sys.exit(5)", 5, "once\n"),
    "killed": (
        "print('here', flush=True); os.killpg(0, 9)",
        9,
        "once\nhere\nMPI then ended all its processes (SIGKILL)\n",
    ),
    "SIGTERM": (STOPS.format("signal.SIGTERM", 7), 7, "once\n"),
    "SIGINT": (STOPS.format("signal.SIGINT", 8), 8, "once\n"),
    "alone": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('stops'))); os.kill(parent, 9); time.sleep(60)",
        -signal.SIGKILL,
        "once\nstops\n",
    ),
}


@needs_fork
@pytest.mark.parametrize("case", ENDS)
def test_a_process_apart_gives_its_status_and_its_death_is_an_error(case):
    body, status, printed = ENDS[case]
    command = [sys.executable, "-c", APART.replace("{body}", body)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=100, env=environment)
    assert (ended.returncode, ended.stdout) == (status, printed)
