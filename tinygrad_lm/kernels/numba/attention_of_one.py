"""Attention of one query a text, the newest token's, to all keys so far, on all cores.

Each key and value is fetched once; of a query's scores no other copy is made than the row that becomes its weights.

B texts, S keys, H heads of D channels, G key heads, R = H / G.
"""

import math

import numpy as np

from tinygrad_lm.kernels.numba.compile import compiled, exp, f4
from tinygrad_lm.kernels.numba.memory import floats
from tinygrad_lm.kernels.numba.together import shared

NO_STARTS = np.zeros(0, np.int64)


def attention_of_one(q, k, v, starts):
    """y (B, 1, H, D), as ops/attention.py says, for q of one position. starts: (B, 1) integers or None."""
    if k.strides[3] != 4 or v.strides[3] != 4:
        k, v = np.ascontiguousarray(k), np.ascontiguousarray(v)
    starts = NO_STARTS if starts is None else np.ascontiguousarray(starts[:, 0], np.int64)
    B, _, G, _ = k.shape
    y = np.empty(q.shape, f4)
    attend(B * G, 1, np.ascontiguousarray(q), k, v, starts, y)
    return y


@shared(beside_blas=True)
def attend(first, last, q, k, v, starts, y):
    """The R queries of each (text, key head) from first to last."""
    (_, S, G, D), H = k.shape, q.shape[2]
    scale, z = f4(1 / math.sqrt(D)), np.empty(S, f4)
    for part in range(first, last):
        (b, g), R = divmod(part, G), H // G
        start = starts[b] if starts.size else 0
        for h in range(g * R, g * R + R):
            weigh(q[b, 0, h], k[b, :, g].ctypes.data, k.strides[1], z, start, S)
            softmax(z[start:S], scale)
            mix(y[b, 0, h], v[b, :, g].ctypes.data, v.strides[1], z, start, S)


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
