"""Ranks that are threads of one process: tests of what ranks compute need no processes."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tinygrad_lm.distributed.communicator import Communicator

PATIENCE = 60  # seconds; a test that waits as long has failed


class ThreadRank(Communicator):
    def __init__(self, rank, size, slots, barrier, mail):
        self.rank, self.size, self.slots, self.barrier, self.mail = rank, size, slots, barrier, mail
        self.sent = 0  # bytes

    def exchange(self, send, receive, partner):
        self.sent += send.nbytes
        self.mail[self.rank, partner].put(send.copy())
        receive[...] = self.mail[partner, self.rank].get(timeout=PATIENCE)

    def gather(self, x):
        self.slots[self.rank] = x.copy()
        self.barrier.wait(PATIENCE)
        found = [each.copy() for each in self.slots]
        self.barrier.wait(PATIENCE)
        return found

    def collect(self, x):
        parts = self.gather(x)
        return x if self.rank else np.concatenate(parts)

    def broadcast(self, x, root):
        x[...] = self.gather(x)[root]


def together(size, function):
    """[function(rank) for each of so many ranks], at once."""
    slots, barrier = [None] * size, threading.Barrier(size)
    mail = {(i, j): queue.SimpleQueue() for i in range(size) for j in range(size)}

    def of(rank):
        try:
            return function(ThreadRank(rank, size, slots, barrier, mail))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [each.result() for each in [pool.submit(of, rank) for rank in range(size)]]
