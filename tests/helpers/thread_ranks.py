"""Ranks that are threads of one process: tests of what ranks compute need no processes."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np

from tinygrad_lm.distributed.communicator import Communicator

PATIENCE = 60  # seconds; a test that waits as long has failed
here = threading.local()  # here.rank: the ThreadRank of this thread


class ThreadRank(Communicator):
    def __init__(self, rank, size, slots, barrier, mail, turn):
        self.rank, self.size, self.slots, self.barrier, self.mail = rank, size, slots, barrier, mail
        self.sent, self.turn = 0, turn  # bytes; a lock, which a rank that computes holds

    def exchange(self, send, receive, partner):
        self.sent += send.nbytes
        self.mail[self.rank, partner].put(send.copy())
        with self.waiting():
            receive[...] = self.mail[partner, self.rank].get(timeout=PATIENCE)

    def gather(self, x):
        self.slots[self.rank] = x.copy()
        with self.waiting():
            self.barrier.wait(PATIENCE)
            found = [each.copy() for each in self.slots]
            self.barrier.wait(PATIENCE)
        return found

    def collect(self, x):
        parts = self.gather(x)
        return x if self.rank else np.concatenate(parts)

    def broadcast(self, x, root):
        x[...] = self.gather(x)[root]

    @contextmanager
    def waiting(self):
        """Within the block it is another rank's turn, if they take turns."""
        if self.turn is None:
            yield
            return
        self.turn.release()
        try:
            yield
        finally:
            self.turn.acquire()


def together(size, function, in_turns=False):
    """[function(rank) for each of so many ranks], at once.

    in_turns: one computes at a time, until it waits for another: for what threads must not use at once.
    """
    slots, barrier, turn = [None] * size, threading.Barrier(size), threading.Lock() if in_turns else None
    mail = {(i, j): queue.SimpleQueue() for i in range(size) for j in range(size)}

    def of(rank):
        here.rank = ThreadRank(rank, size, slots, barrier, mail, turn)
        with turn or nullcontext():
            try:
                return function(here.rank)
            except BaseException:
                barrier.abort()
                raise

    with ThreadPoolExecutor(size) as pool:
        return [each.result() for each in [pool.submit(of, rank) for rank in range(size)]]
