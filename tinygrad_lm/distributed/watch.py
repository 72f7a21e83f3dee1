"""A job in which one rank hangs ends within seconds, and says which rank it is and where it is.

Others would wait for it for ever: neither MPI nor its launchers notice a process that was stopped, or one that waits
for something else.
"""

import faulthandler
import math
import os
import sys
import threading
import time

import numpy as np

from tinygrad_lm.errors import ConfigError

VARIABLE = "TINYGRAD_LM_TIMEOUT"
BEAT = 0.2  # seconds between two signs of life
WORK = 10  # limits that others wait for a rank which is alive: it may be writing a large checkpoint
ALIVE, ACCUSED = 0, 1  # tags of messages
HINT = "  hint : the newest checkpoint is whole; --resume RUN goes on, with as many processes as are left"


def time_limit():
    """Seconds without a sign of life after which a rank counts as lost."""
    text = os.environ.get(VARIABLE, "30")
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise ConfigError(f"{VARIABLE} must be a positive number of seconds, found {text!r}")
    return limit


class Watch:
    """Within its `with` block each rank tells the next one that it is alive, and watches the one before.

    A thread does it, so a rank may compute as long as it likes. One that gives no sign of life for `limit` seconds is
    named, and the job ends. So does it if one is alive, but has not come where the others wait for it for `WORK` times
    as long; that one prints where it is, too.

    ranks: the Job; comm: a communicator of MPI for nothing else; now: a clock, in seconds
    """

    def __init__(self, ranks, comm, limit=None, now=time.monotonic):
        self.ranks, self.comm, self.now = ranks, comm, now
        self.limit = time_limit() if limit is None else limit
        self.next, self.before = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
        self.ended, self.sent = threading.Event(), None
        self.looked = self.heard = self.followed = now()

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
        """Tell the next rank how many calls this one has begun, unless it has not taken what it was told before."""
        if self.sent is None or self.sent.Test():
            self.calls = np.array([self.ranks.calls])  # kept until it is sent
            self.sent = self.comm.Isend(self.calls, self.next, ALIVE)

    def problem(self):
        """What is wrong with the rank before, or with this one; None if nothing is."""
        now, calls = self.now(), np.zeros(1, int)
        if now - self.looked > self.limit / 2:  # this process was stopped itself, perhaps with all others
            self.heard = self.followed = now
        self.looked = now
        while self.comm.Iprobe(self.before, ALIVE):
            self.comm.Recv(calls, self.before, ALIVE)
            self.heard = now
            if calls[0] >= self.ranks.calls:
                self.followed = now
        if self.comm.Iprobe(self.next, ACCUSED):
            return "the others have been waiting for this rank"
        if now - self.heard > self.limit:
            return f"rank {self.before} has given no sign of life for {self.limit:g} s"
        if now - self.followed > WORK * self.limit:
            self.comm.Send(calls, self.before, ACCUSED)
            time.sleep(2 * BEAT)  # so that it can say where it is
            return f"rank {self.before} is alive, but others have waited for it for {WORK * self.limit:g} s"
        return None


def end_job(problem):
    """End this process with a message and the place where each of its threads is; the launcher ends the others."""
    print(f"error: {problem}\n{HINT}\nthis process is here:", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(sys.__stderr__)
    os._exit(1)
