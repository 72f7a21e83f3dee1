"""All cores on one piece of work of a fraction of a millisecond, such as the product that a new token needs.

To wake a sleeping thread takes 0.1 ms, so the partners spin: for about a millisecond after the last piece they look for
the next one, and then sleep until they are wanted again. A piece comes in parts. Each thread takes the next part until
none is left, so a partner that is late is not waited for, only one that has taken a part.

`mailbox`, 64-bit numbers, of which each group has a line of the cache:
    NEXT      which piece it is, 2³² times its number, and how many of its parts are left
    DONE      how many of its parts are finished
    FUNCTION  what computes a part: its address; then the address of its arguments, and the number of parts
"""

import functools
import threading
import time

import numba
import numpy as np

from tinygrad_lm.kernels.numba.compile import OPTIONS, compiled, inlined
from tinygrad_lm.kernels.numba.memory import clock, compute, count, exchange, pause, publish, read
from tinygrad_lm.threads import cores

NEXT, DONE, FUNCTION, ARGUMENTS, PARTS = 0, 8, 16, 17, 18
PATIENCE = 3_000_000  # cycles of the processor's clock, 1 ms at 3 GHz: so long a partner spins without work
LATE = 3_000_000  # cycles: a partner that takes so much longer than the leader had to give its core to another program,
REST = 0.2  # seconds: and is left alone for so long
MOST = 7  # partners; a few cores fetch all that a memory gives


class Part:
    """Decorator: a function of (numbers that describe a piece of work, a part's index), compiled when it is wanted."""

    def __init__(self, function):
        self.function = function

    @functools.cached_property
    def address(self):
        """Where the machine code begins."""
        signature = "void(CPointer(int64), int64)"
        try:
            self.compiled = numba.cfunc(signature, cache=True, **OPTIONS)(self.function)
        except RuntimeError:  # no folder for it can be written
            self.compiled = numba.cfunc(signature, **OPTIONS)(self.function)
        return self.compiled.address


@inlined
def take(mailbox):
    """Take the next part and compute it. False where none is left."""
    here = mailbox.ctypes.data
    seen = read(here + 8 * NEXT)
    left = seen & 0xFFFFFFFF
    if left == 0:
        return False
    function, arguments, parts = mailbox[FUNCTION], mailbox[ARGUMENTS], mailbox[PARTS]
    if exchange(here + 8 * NEXT, seen, seen - 1):  # nobody was faster, and the piece is still the one that was read
        compute(function, arguments, parts - left)
        count(here + 8 * DONE)
    return True


@compiled
def lead(mailbox, function, arguments, parts):
    """Offer a piece of work, take part in it until it is done. Returns for how many cycles nothing was left to take."""
    here = mailbox.ctypes.data
    mailbox[FUNCTION], mailbox[ARGUMENTS], mailbox[PARTS], mailbox[DONE] = function, arguments.ctypes.data, parts, 0
    publish(here + 8 * NEXT, (((mailbox[NEXT] >> 32) + 1) << 32) + parts)
    while take(mailbox):
        pass
    began = clock()
    while read(here + 8 * DONE) < parts:
        pause()
    return clock() - began


@compiled
def follow(mailbox):
    """Take part in what is offered, until for some time nothing is."""
    last = clock()
    while clock() - last < PATIENCE:
        if take(mailbox):
            last = clock()
        else:
            pause()


class Partners:
    """The threads that help, one for each core but the leader's. They are started when they are wanted first."""

    def __init__(self):
        self.mailbox, self.one_at_a_time, self.wanted, self.rest = np.zeros(32, np.int64), threading.Lock(), [], 0.0

    def work(self, compiled, *arguments):
        """compiled(*arguments, mailbox), which returns what `lead` does: with the partners if they are free, or alone.

        They are left alone for a while where other threads want their cores, for then the leader would wait for them.
        """
        resting = time.perf_counter() < self.rest
        if not resting and self.one_at_a_time.acquire(blocking=False):
            try:
                self.wake()
                late = compiled(*arguments, self.mailbox) > LATE
            finally:
                self.one_at_a_time.release()
        else:
            compiled(*arguments, np.zeros_like(self.mailbox))
            late = not resting  # another thread of this process had them
        if late:
            self.rest = time.perf_counter() + REST

    def wake(self):
        """Let the partners look for work."""
        if not self.wanted:
            for _ in range(min(cores() - 1, MOST)):
                self.wanted.append(threading.Event())
                threading.Thread(target=self.help, args=(self.wanted[-1],), daemon=True).start()
        for wanted in self.wanted:
            if not wanted.is_set():
                wanted.set()

    def help(self, wanted):
        """What a partner does all its life."""
        while wanted.wait():
            follow(self.mailbox)
            wanted.clear()


partners = Partners()
