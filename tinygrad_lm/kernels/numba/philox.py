"""Which entries a dropout keeps, a bit each: the random numbers of `backend.random`, drawn many at a time.

Philox 4×64 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3), counted as
NumPy counts. A counter gives four 64-bit words, so eight numbers of 32 bits, low half first; the upper 24 bits of each
are a uniform u in [0, 1). Vector registers multiply halves of words only, but eight words at once: a third of the time
of the processor's product of two whole ones.
"""

import math

import numpy as np

from tinygrad_lm.backend import integers, random
from tinygrad_lm.kernels.numba.compile import f4, inlined
from tinygrad_lm.kernels.numba.together import shared
from tinygrad_lm.ops.dropout import check_probability

u8 = np.uint64
LANES = 64  # counters that go through the rounds together
LEAST = 2**10  # counters in a part, some microseconds
A, B = u8(0xD2E7470EE14C6C93), u8(0xCA5A826395121157)  # the multipliers and, below, the key's steps: table 2
STEP0, STEP1 = u8(0x9E3779B97F4A7C15), u8(0xBB67AE8584CAA73B)
HALF, LOW = u8(32), u8(2**32 - 1)
BOTH = u8(2**32 + 1)  # 1 in each half of a word


def bits_kept(shape, p, key):
    """(bits, bytes a row) of the mask that `keep` of ops/dropout.py defines for an array of this shape.

    Bit i of byte j of a row is entry 8 j + i of that row.
    """
    check_probability(p)
    seed, stream, *counter = key
    *step, row = integers(counter)
    rows, n = shape[0] if shape else 1, math.prod(shape[1:])
    each = (n + 7) // 8
    bits = np.empty(rows * each, np.uint8)
    if rows:  # of the last row, too, so that what is no counter is refused as by the definition
        first, _ = (random(seed, stream, *step, row + b).bit_generator.state["state"] for b in (0, rows - 1))
        limit = u8(math.ceil(float(f4(1) * p) * 2**24))  # u ≥ p where its 24 bits are at least this
        draw(rows * each, LEAST, first["counter"], 1 + len(step), first["key"], limit, each, bits)
    return bits, each


@inlined
def product(low, high, x):
    """The two words of (low + 2³² high) x."""
    under, over = x & LOW, x >> HALF
    a = low * under
    b = high * under + (a >> HALF)
    c = low * over + (b & LOW)
    return high * over + (b >> HALF) + (c >> HALF), (c << HALF) | (a & LOW)


@inlined
def reach(word, distance):
    """In each half of a word a bit: whether its upper 24 bits and distance, which is in both halves, make 2²⁴."""
    return (((word >> u8(8)) & (u8(2**24 - 1) * BOTH)) + distance) >> u8(24) & BOTH


@shared
def draw(start, stop, counter, of_rows, key, limit, each, bits):
    """The bytes of `bits` from start to stop. Word of_rows of the counter grows from row to row."""
    x = np.empty((4, LANES), u8)
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    distance, row, place = (u8(2**24) - limit) * BOTH, start // each, start % each
    for first in range(start, stop, LANES):
        for i in range(LANES):
            x0[i], x1[i], x2[i], x3[i] = u8(place + 1), counter[1], counter[2], counter[3]  # counts before it draws
            x[of_rows, i] += u8(row)
            place += 1
            if place == each:
                row, place = row + 1, 0
        key0, key1 = key[0], key[1]
        for _ in range(10):
            for i in range(LANES):
                a, a_low = product(A & LOW, A >> HALF, x0[i])
                b, b_low = product(B & LOW, B >> HALF, x2[i])
                x0[i], x1[i], x2[i], x3[i] = b ^ x1[i] ^ key0, b_low, a ^ x3[i] ^ key1, a_low
            key0, key1 = key0 + STEP0, key1 + STEP1
        some = bits[first : min(stop, first + LANES)]
        for i in range(some.size):
            four = reach(x0[i], distance) | reach(x1[i], distance) << u8(2)
            four |= reach(x2[i], distance) << u8(4) | reach(x3[i], distance) << u8(6)
            some[i] = four | four >> u8(31)
