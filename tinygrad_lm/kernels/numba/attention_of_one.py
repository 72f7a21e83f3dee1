"""Attention of one query a text, the newest token's, to all keys so far, on all cores.

Each key and value is fetched once; of a query's scores no other copy is made than the row that becomes its weights.

B texts, S keys, H heads of D channels, G key heads, R = H / G.
"""

import math

import numpy as np

from tinygrad_lm.kernels.numba.compile import compiled, exp, f4
from tinygrad_lm.kernels.numba.memory import floats, integers
from tinygrad_lm.kernels.numba.together import Part, lead, partners

NO_STARTS = np.zeros(0, np.int64)


def attention_of_one(q, k, v, starts):
    """y (B, 1, H, D), as ops/attention.py says, for q of one position. starts: (B, 1) integers or None."""
    if k.strides[3] != 4 or v.strides[3] != 4:
        k, v = np.ascontiguousarray(k), np.ascontiguousarray(v)
    starts = NO_STARTS if starts is None else np.ascontiguousarray(starts[:, 0], np.int64)
    y = np.empty(q.shape, f4)
    partners.work(attend, np.ascontiguousarray(q), k, v, starts, y, attend_with_head.address)
    return y


@compiled
def attend(q, k, v, starts, y, part, mailbox):
    """Lead the others through all (text, key head), as parts."""
    B, _, H, D = q.shape
    work = np.empty(16, np.int64)
    work[0], work[1], work[2], work[3] = k.shape[1], H, k.shape[2], D
    work[4], work[5] = q.ctypes.data, y.ctypes.data
    work[6] = starts.ctypes.data if starts.size else 0
    work[7], work[8], work[9], work[10] = k.ctypes.data, k.strides[0], k.strides[1], k.strides[2]
    work[11], work[12], work[13], work[14] = v.ctypes.data, v.strides[0], v.strides[1], v.strides[2]
    return lead(mailbox, part, work, B * k.shape[2])


@Part
def attend_with_head(work, part):
    """The R queries of one key head of one text."""
    S, H, G, D = work[0], work[1], work[2], work[3]
    (b, g), R = divmod(part, G), H // G
    scale, start = f4(1 / math.sqrt(D)), integers(work[6], b + 1)[b] if work[6] else 0
    z = np.empty(S, f4)
    for h in range(g * R, g * R + R):
        here = 4 * (b * H + h) * D
        weigh(floats(work[4] + here, D), work[7] + b * work[8] + g * work[10], work[9], z, start, S)
        softmax(z[start:S], scale)
        mix(floats(work[5] + here, D), work[11] + b * work[12] + g * work[14], work[13], z, start, S)


@compiled
def weigh(q, keys, step, z, start, stop):
    """z[s] = q · key s, four keys at a time. keys: the address of the first; they are `step` bytes apart."""
    for s in range(start, stop - 3, 4):
        here, D = keys + s * step, q.size
        k0, k1, k2, k3 = floats(here, D), floats(here + step, D), floats(here + 2 * step, D), floats(here + 3 * step, D)
        z0, z1, z2, z3 = f4(0), f4(0), f4(0), f4(0)
        for d in range(D):
            z0 += q[d] * k0[d]
            z1 += q[d] * k1[d]
            z2 += q[d] * k2[d]
            z3 += q[d] * k3[d]
        z[s], z[s + 1], z[s + 2], z[s + 3] = z0, z1, z2, z3
    for s in range(stop - (stop - start) % 4, stop):
        k0, z0 = floats(keys + s * step, q.size), f4(0)
        for d in range(q.size):
            z0 += q[d] * k0[d]
        z[s] = z0


@compiled
def softmax(z, scale):
    """z = softmax(scale z) in place."""
    largest, total = z[0], f4(0)
    for i in range(z.size):
        largest = max(largest, z[i])
    for i in range(z.size):
        z[i] = exp(scale * (z[i] - largest))
        total += z[i]
    for i in range(z.size):
        z[i] /= total


@compiled
def mix(y, values, step, z, start, stop):
    """y = Σ z[s] value s, four at a time."""
    y[:] = 0
    for s in range(start, stop - 3, 4):
        here, D = values + s * step, y.size
        v0, v1, v2, v3 = floats(here, D), floats(here + step, D), floats(here + 2 * step, D), floats(here + 3 * step, D)
        z0, z1, z2, z3 = z[s], z[s + 1], z[s + 2], z[s + 3]
        for d in range(D):
            y[d] += z0 * v0[d] + z1 * v1[d] + z2 * v2[d] + z3 * v3[d]
    for s in range(stop - (stop - start) % 4, stop):
        v0 = floats(values + s * step, y.size)
        for d in range(y.size):
            y[d] += z[s] * v0[d]
