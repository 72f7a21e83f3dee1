"""All cores on one piece of work of a fraction of a millisecond, such as the product that a new token needs.

To wake a sleeping thread takes 0.1 ms, so the partners spin: for about a millisecond after the last piece they look for
the next one, and then sleep until they are wanted again. A piece comes in parts. Each thread takes the next part until
none is left, so a partner that is late is not waited for, only one that has taken a part. The leader takes them from
the first on, others from the last: of two cores each finds in its cache the rows that it computed before.

`mailbox`, 64-bit numbers, of which each group has a line of the cache:
    NEXT      which piece it is, 2⁴⁰ times its number, 2²⁰ times which of its parts is the first left, how many are left
    DONE      how many of its parts are finished
    FUNCTION  what computes a part: its address; then the address of its arguments
"""

import functools
import threading
import time
import types

import numba
import numpy as np

from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.numba.compile import OPTIONS, compiled, inlined
from tinygrad_lm.kernels.numba.memory import (
    call_of_part,
    clock,
    compute,
    count,
    exchange,
    integers,
    pause,
    publish,
    read,
)
from tinygrad_lm.threads import TOGETHER, after_fork, blas, cores, this_thread

NEXT, DONE, FUNCTION, ARGUMENTS = 0, 8, 16, 17
BITS = 20
ALL = 2**BITS - 1  # parts of a piece at most
PATIENCE = 3_000_000  # cycles of the processor's clock, 1 ms at 3 GHz: so long a partner spins without work
LATE = 3_000_000  # cycles: a partner that takes so much longer than the leader had to give its core to another program,
REST = 0.002, 0.2  # seconds: and is left alone, at first for so long, twice as long each time that it is late again
PARTS = 8  # of a piece. With more the cores would rather fight for the next one, with fewer wait for the last
MANY = 16  # times the least that is worth to be a part; of a long piece more parts are made
LEAST = 2**12  # numbers in a part: a microsecond's work, no less than it takes to offer a piece
FORGET = 0.99  # by what the next rest gets shorter with each piece that is done in time
KEEP = -2


def shared(function=None, *, beside_blas=False):
    """Decorator: of function(start, stop, *arguments), which goes over the things from start to stop of a loop, make
    function(size, least, *arguments): all cores that are free go over `size` things, at least so many at a time.

    Loops run over x[start:stop], not over x from start to stop, which Numba would look for negative indices.
    What a part writes must depend on no other part. It is computed by one thread in one order, so the result has the
    same bits on any number of cores. beside_blas: even where BLAS may have the other cores (`Partners.allowed`).
    """
    if function is None:
        return functools.partial(shared, beside_blas=beside_blas)
    leader = leader_of(function)

    @functools.wraps(function)
    def whole(size, least, *arguments):
        grain = grain_of(size, least)
        alone = size <= grain or not (beside_blas or partners.allowed())
        (partners.alone if alone else partners.work)(leader, size, grain, *arguments)

    whole.leader = leader
    return whole


def grain_of(size, least):
    """How many things are a part: the same on any number of cores."""
    return min(max(least, -(-size // PARTS)), MANY * least)


def leader_of(function):
    """`leader` for a function, as if it were in that function's file, beside which Numba keeps the machine code.

    The function becomes part of it. Otherwise there would be two, one compiled by itself and one beside the leader, and
    the process that compiles them would use the first, others, which load the leader, the second: with other last bits.
    """
    code, name = function.__code__, f"{function.__name__}_shared"
    code = leader.__code__.replace(co_filename=code.co_filename, co_firstlineno=code.co_firstlineno, co_name=name)
    part = numba.njit(nogil=True, forceinline=True, **OPTIONS)(function)
    made = types.FunctionType(code, globals() | {"function": part}, name)
    made.__module__, made.__qualname__ = function.__module__, name
    return compiled(made)


def leader(size, grain, part, mailbox, *arguments):
    """Compute one part, or with part −1 lead all others through all of them, or KEEP for later how to compute one."""
    if part >= 0:
        function(part * grain, min(size, (part + 1) * grain), *arguments)  # noqa: F821 (leader_of)
        return 0
    code, here, length = call_of_part((size, grain, mailbox, arguments))
    if part == KEEP:
        return keep(mailbox, code, here, length // 8)
    return lead(mailbox, code, here, (size + grain - 1) // grain)


@inlined
def take(mailbox, leads):
    """Take a part and compute it: the leader the first that is left, others the last. False where none is left."""
    here = mailbox.ctypes.data
    seen = read(here + 8 * NEXT)
    left, first = seen & ALL, (seen >> BITS) & ALL
    if left == 0:
        return False
    function, arguments = mailbox[FUNCTION], mailbox[ARGUMENTS]
    if exchange(here + 8 * NEXT, seen, seen - 1 + (leads << BITS)):  # nobody was faster, nor is it another piece
        compute(function, arguments, first if leads else first + left - 1)
        count(here + 8 * DONE)
    return True


@compiled
def lead(mailbox, function, arguments, parts):
    """Offer a piece of work, take part in it until it is done. Returns for how many cycles others were waited for, in
    which they could not just have been at a last part."""
    here, began, mine = mailbox.ctypes.data, clock(), 0
    mailbox[FUNCTION], mailbox[ARGUMENTS], mailbox[DONE] = function, arguments, 0
    publish(here + 8 * NEXT, (((mailbox[NEXT] >> 2 * BITS) + 1) << 2 * BITS) + parts)
    while take(mailbox, 1):
        mine += 1
    ended = clock()
    while read(here + 8 * DONE) < parts:
        pause()
    return clock() - ended - (ended - began) // max(1, mine)


@compiled
def keep(room, code, here, length):
    """Write to `room` the address of a part's code and, behind it, its arguments. Returns how long these are."""
    if length < room.size:
        room[0], room[1 : 1 + length] = code, integers(here, length)
    return length


@compiled
def follow(mailbox):
    """Take part in what is offered, until for some time nothing is."""
    last = clock()
    while clock() - last < PATIENCE:
        if take(mailbox, 0):
            last = clock()
        else:
            pause()


class Partners:
    """The threads that help, one for each core but the leader's. They are started when they are wanted first."""

    def __init__(self):
        self.begin()

    def begin(self):
        """Have no partner yet."""
        self.mailbox, self.one_at_a_time, self.wanted = np.zeros(32, np.int64), threading.Lock(), []
        self.until, self.rest = 0.0, REST[0]

    def allowed(self):
        """Whether this thread may use other cores: it is none of several `workers`, and no threads of BLAS are there.

        A model in bfloat16 calls no BLAS (kernels/bfloat16/).
        """
        return not this_thread.is_worker and (blas.single or thread.products != "")

    def work(self, leader, size, grain, *arguments):
        """Let a leader, made by `shared`, do its work with the partners if they are free, else alone.

        They are left alone for a while where other threads want their cores, for then the leader would wait for them.
        """
        resting = time.perf_counter() < self.until
        if not resting and self.one_at_a_time.acquire(blocking=False):
            try:
                self.wake()
                late = leader(size, grain, -1, self.mailbox, *arguments) > LATE
            finally:
                self.one_at_a_time.release()
        else:
            self.alone(leader, size, grain, *arguments)
            late = not resting  # another thread of this process had them
        if late:
            self.until, self.rest = time.perf_counter() + self.rest, min(2 * self.rest, REST[1])
        elif not resting:
            self.rest = max(REST[0], self.rest * FORGET)

    def alone(self, leader, size, grain, *arguments):
        """As `work`, without partners."""
        leader(size, grain, -1, np.zeros(self.mailbox.size, np.int64), *arguments)

    def wake(self):
        """Let the partners look for work."""
        if not self.wanted:
            for _ in range(min(cores(), TOGETHER) - 1):
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
after_fork(partners.begin)  # to start others there
