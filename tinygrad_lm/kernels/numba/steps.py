"""Many pieces of work in a row, such as all that a new token needs, prepared once and then done by a single call.

Between two pieces of a few microseconds each the interpreter would take longer than they do. What a piece is, and the
machine code that computes it, are those of `shared` (together.py), so the results have the same bits.
"""

import numpy as np

from tinygrad_lm.kernels.numba.compile import compiled
from tinygrad_lm.kernels.numba.memory import compute
from tinygrad_lm.kernels.numba.together import KEEP, LATE, grain_of, lead, partners, shared

ROOM = 256  # 64-bit numbers for the arguments of a piece: of an array of two axes they are nine
CODE, ARGUMENTS, PARTS = 0, 1, 2


class Steps:
    """Pieces of work, in order, with the arrays that they read and write at each call."""

    def __init__(self):
        self.table, self.kept = [], []

    def add(self, function, size, least, *arguments):
        """Let the next piece be function(size, least, *arguments), for a `shared` function and arrays that stay."""
        grain, room = grain_of(size, least), np.zeros(ROOM, np.int64)
        if function.leader(size, grain, KEEP, room, *arguments) >= ROOM:
            raise ValueError(f"{function.__name__}: its arguments are too long")
        self.kept.append((room, arguments))
        self.table.append((room[0], room.ctypes.data + room.itemsize, -(-size // grain)))

    def together(self, n):
        """Let the last n pieces be one, of all their parts: none of them needs what another writes.

        Then the threads wait for each other but once.
        """
        table = np.array(self.table[-n:], np.int64)
        del self.table[-n:]
        self.add(several, int(table[:, PARTS].sum()), 1, table)

    def done(self):
        """No more are added."""
        self.table = np.array(self.table, np.int64)

    def __call__(self):
        (partners.work if partners.allowed() else partners.alone)(perform, 0, 0, self.table)


@shared
def several(start, stop, table):
    """Compute the parts from start to stop of all parts of the pieces of a table."""
    for part in range(start, stop):
        i = 0
        while part >= table[i, PARTS]:
            part, i = part - table[i, PARTS], i + 1
        compute(table[i, CODE], table[i, ARGUMENTS], part)


@compiled
def perform(size, grain, part, mailbox, table):
    """Do the pieces of a table, as the leader of partners (together.py).

    If they come late for one, it does the others alone. A piece of one part is never offered: a partner would only get
    in the way. Returns the most cycles for which they were waited for.
    """
    late = 0
    for i in range(len(table)):
        code, arguments, parts = table[i, CODE], table[i, ARGUMENTS], table[i, PARTS]
        if parts > 1:
            late = max(late, lead(mailbox, code, arguments, parts))
            if late > LATE:
                mailbox = np.zeros(mailbox.size, np.int64)
        else:
            for j in range(parts):
                compute(code, arguments, j)
    return late
