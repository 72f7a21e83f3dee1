"""Attention of one query a text, the newest token's, to all keys so far, on all cores.

Each key and value is fetched once; of a query's scores no other copy is made than the row that becomes its weights.

B texts, S keys, H heads of D channels, G key heads, R = H / G.
"""

import math

import numpy as np

from tinygrad_lm.kernels.numba.compile import compiled, exp, f4, inlined
from tinygrad_lm.kernels.numba.memory import ask, floats
from tinygrad_lm.kernels.numba.together import shared

AHEAD = 16  # keys or values: so many are on the way from memory while one is computed with


def attention_of_one(q, k, v, starts):
    """y (B, 1, H, D), as ops/attention.py says, for q of one position. starts: (B, 1) integers or None."""
    if k.strides[3] != 4 or v.strides[3] != 4:
        k, v = np.ascontiguousarray(k), np.ascontiguousarray(v)
    (B, S, G, _), (keys, values) = k.shape, (x.__array_interface__["data"][0] for x in (k, v))
    starts = [0] * B if starts is None else starts[:, 0].tolist()
    steps = *k.strides[1:3], *v.strides[1:3]
    texts = [(keys + b * k.strides[0], values + b * v.strides[0], *steps, starts[b], S) for b in range(B)]
    y = np.empty(q.shape, f4)
    attend(B * G, 1, np.ascontiguousarray(q), np.array(texts, np.int64), G, y)
    return y


@shared(beside_blas=True)
def attend(first, last, q, texts, G, y):
    """The R queries of each (text, key head) from first to last.

    texts: of each text the addresses of its keys and of its values; how many bytes lie between two keys, two heads of a
    key, two values, two heads of a value; the first key that its query sees, and how many there are.
    """
    _, _, H, D = q.shape
    scale = f4(1 / math.sqrt(D))
    for part in range(first, last):
        (b, g), R = divmod(part, G), H // G
        keys, values, next_key, next_key_head, next_value, next_value_head, start, stop = texts[b]
        keys, values, z = keys + g * next_key_head, values + g * next_value_head, np.empty(stop, f4)
        for h in range(g * R, g * R + R):
            weigh(q[b, 0, h], keys, next_key, z, start, stop)
            softmax(z[start:stop], scale)
            mix(y[b, 0, h], values, next_value, z, start, stop)


@inlined
def soon(here, step, D):
    """Ask for four keys or values of D numbers, to be read soon."""
    for i in range(4):
        for line in range(0, 4 * D, 64):
            ask(here + i * step + line)


@compiled
def weigh(q, keys, step, z, start, stop):
    """z[s] = q · key s, four keys at a time. keys: the address of the first; they are `step` bytes apart."""
    for s in range(start, stop - 3, 4):
        here, D = keys + s * step, q.size
        soon(here + AHEAD * step, step, D)
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
        soon(here + AHEAD * step, step, D)
        v0, v1, v2, v3 = floats(here, D), floats(here + step, D), floats(here + 2 * step, D), floats(here + 3 * step, D)
        z0, z1, z2, z3 = z[s], z[s + 1], z[s + 2], z[s + 3]
        for d in range(D):
            y[d] += z0 * v0[d] + z1 * v1[d] + z2 * v2[d] + z3 * v3[d]
    for s in range(stop - (stop - start) % 4, stop):
        v0 = floats(values + s * step, y.size)
        for d in range(y.size):
            y[d] += z[s] * v0[d]
