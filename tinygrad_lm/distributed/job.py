"""A process's place in a job of many: how it joins, which cores and GPU are its own, and how it leaves.

mpirun -n 4 python examples/pretrain_shakespeare.py      # every MPI
srun --mpi=pmi2 -n 4 python examples/…                   # Slurm
python -m tinygrad_lm.distributed -n 4 examples/…        # the MPI of this environment
"""

import os
import platform
import sys
import time
import traceback
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from itertools import groupby

import numpy as np

from tinygrad_lm.distributed.communicator import Job, enter, world
from tinygrad_lm.distributed.launcher import own_rank, started
from tinygrad_lm.distributed.supervisor import HINT, JOINED, JOINS, LEFT, say, supervised
from tinygrad_lm.distributed.watch import Watch
from tinygrad_lm.errors import ConfigError, TinygradError
from tinygrad_lm.programs import status_of

GRACE = 2  # seconds that a rank which fails waits for the others to fail, too
MOST_CORES = 2**13  # of a machine


@contextmanager
def connected():
    """Within the block `world()` is the job that a launcher has started this process in, if one has.

    Rank 0 alone prints. An error that all ranks have is raised on all. One that others do not have, which would wait
    for ever for the rank that has it, is printed with its name, and ends the job; so does a rank that hangs (watch.py),
    or that is gone (supervisor.py).
    """
    supervised()
    comm = mpi_world()
    if comm is None or world().size > 1:
        yield
        return
    take_cores(comm)
    ranks, aside, errors = Job(comm), comm.Dup(), sys.stderr
    before = enter(ranks)
    try:
        with Watch(ranks, aside):  # to the end: a rank that waits for the others' errors is not lost
            try:
                with silent() if ranks.rank else nullcontext():
                    print("ranks  ", introduced(ranks))
                    yield
                    ranks.meet()
            except BaseException as error:
                if not all_come(aside):
                    end(comm, error, errors)
                if ranks.rank:
                    raise SystemExit(status_of(error)) from None
                raise
    finally:
        say(LEFT)
        enter(before)


def introduced(ranks):
    """The processes of all ranks in their order, by which a user or a monitor knows them."""
    found = [text.split() for text in ranks.texts(f"{platform.node()} {os.getpid()}")]
    machines = groupby(found, key=lambda process: process[0])
    return "; ".join(f"processes {', '.join(number for _, number in here)} on {name}" for name, here in machines)


@contextmanager
def silent():
    """Within the block nothing is printed."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def mpi_world():
    """mpi4py's communicator of all processes of the job, when they are there; None if this process is alone."""
    if started() == 1 and own_rank() is None:
        return None
    say(JOINS)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        say(LEFT)
        raise ConfigError(
            f"this process was started by a launcher of MPI, but mpi4py cannot be used: {error}\n"
            "  hint : pip install 'tinygrad-lm[mpi]', and start with the same environment's mpirun: "
            "python -m tinygrad_lm.distributed -n 2 PROGRAM …"
        ) from None
    say(JOINED)
    if MPI.COMM_WORLD.size < started():
        say(LEFT)
        raise ConfigError(
            f"{started()} processes were started, of which MPI sees {MPI.COMM_WORLD.size}\n"
            "  hint : start them by the launcher of mpi4py's MPI: python -m tinygrad_lm.distributed does; on Slurm"
            " by srun --mpi=pmi2 or --mpi=pmix, whichever that MPI was built for: srun --mpi=list shows both"
        )
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None


def take_cores(comm):
    """Give each process of this machine cores of its own, and a GPU: `threads.cores` then counts these alone."""
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = [str(here.rank)] if devices is None else devices.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = listed[here.rank % len(listed)]
    if hasattr(os, "sched_setaffinity"):
        usable = np.zeros(MOST_CORES, np.uint8)  # by any of them: some launchers have given each process its own
        usable[list(os.sched_getaffinity(0))] = 1
        here.Allreduce(MPI.IN_PLACE, usable, MPI.MAX)
        os.sched_setaffinity(0, part(np.flatnonzero(usable).tolist(), here.rank, here.size))


def part(cores, rank, size):
    """The cores of one of `size` processes: as many each as there are, or one that several share."""
    if size > len(cores):
        return [cores[rank % len(cores)]]
    return [core for i, core in enumerate(cores) if i * size // len(cores) == rank]


def all_come(comm):
    """Whether all ranks come here within `GRACE`."""
    request, until = comm.Ibarrier(), time.monotonic() + GRACE
    while not request.Test():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def end(comm, error, stream):
    """Print the error, which only some ranks have, with this one's name, and end the job."""
    if isinstance(error, (TinygradError, OSError)):
        text = f"{error}\n{HINT}"
    else:
        text = "".join(traceback.format_exception(error))
    print(f"error: rank {comm.rank}: {text}", file=stream, flush=True)
    say(LEFT)
    time.sleep(GRACE / 10)  # MPICH's launcher drops what it has not read when it ends all
    comm.Abort(status_of(error))
    os._exit(status_of(error))  # the launcher is already ending all
