"""A job in which one rank hangs ends within seconds, and says which rank it is and where it is.

Others would wait for it for ever: neither MPI nor its launchers notice a process that was stopped, or one that waits
for something else.
"""

import faulthandler
import os
import sys
import threading
import time

import numpy as np

from tinygrad_lm.distributed.communicator import CALLS
from tinygrad_lm.distributed.supervisor import BEAT, HINT, LEFT, say, time_limit

WORK = 10  # limits that others wait for a rank which is alive: it may be writing a large checkpoint
ALIVE, ACCUSED = 0, 1  # tags of messages


class Watch:
    """Within its `with` block each rank tells the next one that it is alive, and watches the one before.

    A thread does it, so a rank may compute as long as it likes. The job ends, and the ranks are named

    if one gives no sign of life for `limit` seconds;
    if one is alive, but has not come where another waits for it for `WORK` times as long; it prints where it is, too;
    if two have begun different calls as their n-th; both print where they are;
    if all are in the same one for a limit more;
    if one's GPU can no longer send.

    ranks: the Job; comm: a communicator of MPI for nothing else; now: a clock, in seconds
    """

    def __init__(self, ranks, comm, limit=None, now=time.monotonic):
        self.ranks, self.comm, self.now = ranks, comm, now
        self.limit = time_limit() if limit is None else limit
        self.next, self.before = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
        self.ended, self.sent = threading.Event(), None
        self.looked = self.heard = self.followed = self.called = now()
        self.call = ranks.call

    def __enter__(self):
        self.thread = threading.Thread(target=self.run, name="watch", daemon=True)
        self.thread.start()

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()

    def run(self):
        while not self.ended.wait(BEAT):
            self.tell()
            if problem := self.problem():
                end_job(f"rank {self.ranks.rank}: {problem}")

    def tell(self):
        """Tell the next rank which call this one has begun, unless it has not taken what it was told before."""
        if self.sent is None or self.sent.Test():
            self.told = np.array(self.ranks.call)  # kept until it is sent
            self.sent = self.comm.Isend(self.told, self.next, ALIVE)

    def problem(self):
        """What is wrong with the rank before, or with this one; None if nothing is."""
        now, told, own = self.now(), np.zeros(2, int), self.ranks.call
        if now - self.looked > self.limit / 2:  # this process was stopped itself, perhaps with all others
            self.heard = self.followed = self.called = now
        self.looked = now
        if own != self.call or not self.ranks.inside:
            self.call, self.called = own, now
        while self.comm.Iprobe(self.before, ALIVE):
            self.comm.Recv(told, self.before, ALIVE)
            self.heard = now
            if told[0] >= own[0]:
                self.followed = now
            if told[0] == own[0] and told[1] != own[1]:
                calls = f"{CALLS[own[1]]}, that of rank {self.before} {CALLS[told[1]]}"
                return self.accused(f"call {own[0]:,} of this rank is {calls}: they do not run the same program")
        if self.comm.Iprobe(self.next, ACCUSED):
            return f"rank {self.next} cannot go on because of this rank"
        if now - self.heard > self.limit:
            return f"rank {self.before} has given no sign of life for {self.limit:g} s"
        if now - self.followed > (patience := WORK * self.limit):
            return self.accused(f"rank {self.before} is alive, but others have waited for it for {patience:g} s")
        if now - self.called > (patience := patience + self.limit):
            return self.accused(f"{CALLS[own[1]]}, call {own[0]:,}, has not ended for {patience:g} s")
        return self.ranks.trouble()

    def accused(self, problem):
        """The problem, of which the rank before knows, too."""
        self.comm.Send(np.zeros(1, int), self.before, ACCUSED)
        time.sleep(2 * BEAT)  # so that it can say where it is
        return problem


def end_job(problem):
    """End this process with a message and the place where each of its threads is; the launcher ends the others."""
    print(f"error: {problem}\n{HINT}\nthis process is here:", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(sys.__stderr__)
    say(LEFT)
    os._exit(1)
