"""Where the workers of `prepare` run: processes of this machine, ranks of MPI, a Dask or a Ray cluster.

Each function here is a pool: a context manager that yields a concurrent.futures executor and its number of workers. A
worker's death leaves it as BrokenExecutor, whatever the library calls it. What a worker reads and writes are paths, so
all machines must see the files under the same names.
"""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib import import_module

from tinygrad_lm.distributed.launcher import find_launcher
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.threads import cores

NAMES = "processes, mpi, dask://HOST:PORT, ray or ray://HOST:PORT"


def find_pool(name, workers=None):
    """The pool that `--executor` and `--workers` ask for. workers: None for as many as there are"""
    kind, separator, address = name.partition("://")
    if workers is not None and workers < 1:
        raise ConfigError(f"prepare: --workers: expected 1 or more, found {workers}")
    if name in LOCAL:
        return LOCAL[name](workers)
    if kind not in CLUSTERS or bool(separator) != bool(address) or name == "dask":
        raise ConfigError(f"prepare: --executor: expected {NAMES}, found {name}")
    if workers is not None:
        raise ConfigError(f"prepare: --workers: {name} has its own number of workers; leave the option out")
    return CLUSTERS[kind](address)


@contextmanager
def processes(workers=None):
    """Worker processes, one per core by default. They are spawned, because forking a process with threads can hang."""
    workers = workers or cores()
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=start_process)
    try:
        yield executor, workers
    finally:
        executor.shutdown(cancel_futures=True)


def start_process():
    """Start a worker process: ignore Ctrl-C, which the parent handles, and exit when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def mpi_ranks(workers=None):
    """Ranks of MPI: all but the first of `mpirun -n N python -m mpi4py.futures -m tinygrad_lm.data prepare …`.

    Without mpirun, `workers` of them are spawned, one per core by default.
    """
    launched = "mpi4py.MPI" in sys.modules  # by mpi4py.futures, and with it MPI begins
    if not launched:  # spawning needs mpiexec in the path; without it MPICH would hang
        path, variables = find_launcher()
        folders = os.path.dirname(path), os.environ.get("PATH", os.defpath)
        os.environ |= variables | {"PATH": os.pathsep.join(folders)}
    with nullcontext() if launched or not hasattr(os, "fork") else apart():
        library("mpi4py.MPI", "'tinygrad-lm[mpi]'")
        with import_module("mpi4py.futures").MPIPoolExecutor(workers or cores(), initializer=start_rank) as executor:
            yield executor, executor.num_workers


def start_rank():
    """Start a worker of MPI: ignore what mpirun hands on to all ranks, which the first one handles."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def apart():
    """Continue in a forked process, in its own session. This one waits, hands on signals, and ends with its status.

    When a spawned worker dies, MPICH kills the whole process group of its parent, which may be a shell script. In the
    waiting process that becomes BrokenExecutor. If the waiting process is killed, the other receives SIGTERM.
    """
    sys.stdout.flush()
    ended, held = os.pipe()  # reading ends when no process holds the other side any more
    signals = signal.SIGINT, signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until it is clear who handles them
    child = os.fork()
    if child:
        for number in signals:
            signal.signal(number, lambda number, frame: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status >= 0:
            os._exit(status)
        raise BrokenExecutor(f"MPI then ended all its processes ({signal.Signals(-status).name})")
    os.setsid()
    os.close(held)
    stop = lambda: os.read(ended, 1) or os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    yield


@contextmanager
def dask_cluster(address):
    """The workers of a Dask cluster. It repeats the batches of a dead worker; after three deaths it gives up."""
    distributed = library("distributed", "distributed")
    try:
        client = distributed.Client(address)
    except (OSError, ValueError) as error:
        raise DataError(f"prepare: --executor: no Dask scheduler answers at {address}: {error}") from error
    with client:
        try:
            yield client.get_executor(), len(client.nthreads())
        except distributed.KilledWorker as error:
            raise BrokenExecutor(error) from error
        except CancelledError as error:
            raise BrokenExecutor("the scheduler has ended") from error


@contextmanager
def ray_cluster(address):
    """The workers of a Ray cluster: at `address`, in $RAY_ADDRESS, or started here. It repeats as Dask does."""
    ray = library("ray", "ray")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(f"ray://{address}" if address else None, logging_level="WARNING")
    except (OSError, ValueError) as error:
        raise DataError(f"prepare: --executor: no Ray cluster answers: {error}") from error
    signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
    try:
        yield RayExecutor(ray), int(ray.cluster_resources()["CPU"])
    except ray.exceptions.RayTaskError as error:  # the function's own error
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise BrokenExecutor(error) from error
    finally:
        ray.shutdown()


class RayExecutor(Executor):
    """Ray's remote functions as an executor."""

    def __init__(self, ray):
        self.ray = ray

    def submit(self, function, /, *arguments):
        return self.ray.remote(function).remote(*arguments).future()


LOCAL = {"processes": processes, "mpi": mpi_ranks}
CLUSTERS = {"dask": dask_cluster, "ray": ray_cluster}


def library(name, package):
    """Import a library that one executor needs."""
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no MPI
        raise ConfigError(f"prepare: --executor: {error}; pip install {package}") from error
