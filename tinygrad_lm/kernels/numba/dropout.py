"""Dropout on a CPU: the random numbers of the definition, and one pass each way."""

import numba
import numpy as np

from tinygrad_lm.kernels.numba.compile import f4, inlined
from tinygrad_lm.kernels.numba.philox import bits_kept, u8
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.dropout import dropout, keep

PIECE = 2**9  # entries whose bits are spread to bytes at a time, in the first-level cache
COPIES, DIAGONAL = u8(0x0101010101010101), u8(0x8040201008040201)  # a byte eight times; bit i of the i-th of them
NO_BITS = np.zeros(0, np.uint8)


@keep.on("cpu", "float32")
def keep_by_bits(x, p, key):
    """An implementation of `keep` of ops/dropout.py."""
    bits, each = bits_kept(x.shape, p, key)
    rows = len(x) if x.ndim else 1
    m = np.unpackbits(bits.reshape(rows, each), axis=1, count=x.size // max(1, rows), bitorder="little")
    return m.view(bool).reshape(x.shape)


@dropout.on("cpu", "float32")
def dropout_in_one_pass(x, *, p, key):
    """An implementation of `dropout` of ops/dropout.py. A bit an entry is kept."""
    bits, each = bits_kept(x.shape, p, key)
    share, shape = f4(1) * (1 - p), (len(x) if x.ndim else 1, -1)
    if not x.size or share.dtype != f4:  # with a float64 of NumPy's as p the definition's y is float64
        return NotImplemented

    def dropped(x):
        x = np.asarray(x, order="C")
        y = np.empty_like(x)
        drop_rows(x.size, LEAST, x.reshape(shape), y.reshape(shape), bits, each, share)
        return y

    return dropped(x), lambda dy: (dropped(dy),)


def weights_kept(B, H, T, S, p, key):
    """(bits, bits a sequence, 1 − p) of the weights (B, H, T, S) of attention; no bits where p is 0.

    In the order of ops/attention.py: query head h = g R + r, in its rows r T + t, is the h-th of all heads.
    """
    bits, each = bits_kept((B, H * T * S), p, key) if p else (NO_BITS, 0)
    return bits, 8 * each, f4(1 - p)


@numba.njit(forceinline=True, fastmath=False, error_model="numpy")
def quotient(x, y):
    """x / y. With OPTIONS (compile.py) it could be x · 1/y, which has other bits than the definition."""
    return x / y


@inlined
def drop(x, y, bits, first, share, room):
    """y = x / share where it is kept, else 0, of vectors; x's first entry has bit `first`. room: of room_for(x.size).

    Each bit becomes a byte, 0 or not, because a loop over bytes runs in vector registers.
    """
    some = bits[first >> 3 : (first + x.size + 7) >> 3]
    for k in range(some.size):
        room[k] = u8(some[k]) * COPIES & DIAGONAL
    kept = room.view(np.uint8)[first & 7 :]
    for i in range(x.size):
        y[i] = quotient(x[i], share) if kept[i] else f4(0)


@inlined
def room_for(n):
    """A word for each byte of n bits, wherever in a byte they begin."""
    return np.empty(n // 8 + 2, u8)


@shared
def drop_rows(start, stop, x, y, bits, each, share):
    """The entries from start to stop of matrices."""
    n, room = x.shape[1], room_for(PIECE)
    while start < stop:
        row, place = divmod(start, n)
        end = min(n, place + min(PIECE, stop - start))
        drop(x[row, place:end], y[row, place:end], bits, 8 * each * row + place, share, room)
        start += end - place
