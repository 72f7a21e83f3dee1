"""What the processes of a job say to each other. Each of them is a *rank*: its number, from 0 to size − 1.

All ranks run the same program, and call what is here in the same order. Everything that a program decides by itself,
by a clock, a signal or a name, it decides by what one of them says, so that they stay together.
"""

import time
from contextlib import contextmanager, nullcontext

import numpy as np

from tinygrad_lm.backend import device_of
from tinygrad_lm.distributed.nccl import Nccl
from tinygrad_lm.distributed.tree import tree_sum
from tinygrad_lm.errors import ConfigError

CALLS = ("add_up", "gather", "collect", "broadcast", "steps")  # what all ranks do together; steps: those of a GPU


class Communicator:
    """What is made of a kind's primitives.

    exchange(send, receive, partner)   two ranks send each other an array
    gather(x)                          [x of rank 0, x of rank 1, …], flat arrays of any sizes, everywhere
    collect(x)                         these behind one another, on rank 0 alone; x itself elsewhere
    broadcast(x, root)                 x ← that of one rank, in place

    These are for arrays of the host; for those of GPUs there are the first and the last one, as `transport` has them.
    """

    nccl = None  # until it is wanted

    def begins(self, name):
        """This rank begins one of CALLS: how a Job's watch sees that it follows the others."""

    def grouped(self):
        """Within the block all that is sent may be sent at once (nccl.py)."""
        return nullcontext()

    def transport(self, x):
        """What exchanges and broadcasts arrays that lie where x does: this object, or NCCL between GPUs (nccl.py)."""
        if device_of(x) == "cpu":
            return self
        if self.nccl is None:
            self.nccl = Nccl(self)
        return self.nccl

    def add_up(self, x):
        """x ← the sum of a flat array over ranks, a power of two of them, in place, in the order of a binary tree."""
        tree_sum(self.transport(x).exchange, self.rank, self.size, x)

    def meet(self):
        """Wait until all ranks have come here."""
        self.gather(np.zeros(0))

    @contextmanager
    def leading(self):
        """Within the block rank 0 does something for all; the others `follow`, and have its ConfigError, too."""
        try:
            yield
        except ConfigError as error:
            self.text(str(error))
            raise
        self.text("")

    def follow(self):
        """Wait until rank 0's block of `leading` has ended."""
        if problem := self.text(""):
            raise ConfigError(problem)

    def clock(self):
        """Rank 0's time, in seconds from any moment on."""
        return self.first(time.perf_counter())

    def first(self, number):
        """Rank 0's number."""
        return self.gather(np.array([number]))[0].item()

    def text(self, text):
        """Rank 0's text."""
        return self.texts(text)[0]

    def texts(self, text):
        """The text of each rank."""
        found = self.gather(np.frombuffer(text.encode(), np.uint8))
        return [each.tobytes().decode() for each in found]

    def agreed(self, texts):
        """The first text of a list that may grow at any moment and on any rank; "" if it is empty on all."""
        return next(filter(None, self.texts(texts[0] if texts else "")), "")


class Alone(Communicator):
    """One process, without a job: it has nobody to exchange with."""

    rank, size = 0, 1

    def add_up(self, x):
        pass

    def gather(self, x):
        return [x]

    def collect(self, x):
        return x

    def broadcast(self, x, root):
        pass


class Job(Communicator):
    """The processes that a launcher of MPI has started; comm: mpi4py's communicator of all of them.

    Only methods that send arrays as they are: others would pickle, which is slow, and unsafe to read.

    For the watch (watch.py), a thread beside the one that calls:
    call    the number of the call that was begun last, and which of CALLS it is
    inside  whether this rank waits in it for the others
    """

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()
        self.call, self.inside = (0, 0), False

    def begins(self, name):
        self.call = self.call[0] + 1, CALLS.index(name)  # both at once

    @contextmanager
    def calling(self, name):
        """Within the block this rank waits for others."""
        self.begins(name)
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def trouble(self):
        """What the transport of this rank's GPU has met while it works; None if nothing."""
        return self.nccl and self.nccl.trouble()

    def add_up(self, x):
        with self.calling("add_up"):
            super().add_up(x)

    def exchange(self, send, receive, partner):
        self.comm.Sendrecv(send, partner, recvbuf=receive, source=partner)

    def gather(self, x):
        with self.calling("gather"):
            sizes = self.sizes(x)
            found = np.empty(sizes.sum(), x.dtype)
            self.comm.Allgatherv(x, [found, sizes])
        return np.split(found, np.cumsum(sizes)[:-1])

    def collect(self, x):
        with self.calling("collect"):
            sizes = self.sizes(x)
            found = np.empty(sizes.sum() if self.rank == 0 else 0, x.dtype)
            self.comm.Gatherv(x, [found, sizes])
        return x if self.rank else found

    def sizes(self, x):
        found = np.zeros(self.size, np.int64)
        self.comm.Allgather(np.array([x.size], np.int64), found)
        return found

    def broadcast(self, x, root):
        with self.calling("broadcast"):
            self.comm.Bcast(x, root)


_world = Alone()


def world():
    """The ranks that this process is one of; alone, outside of `connected` (job.py)."""
    return _world


def enter(ranks):
    """Make these the ranks of this process. Returns those that were."""
    global _world
    before, _world = _world, ranks
    return before
