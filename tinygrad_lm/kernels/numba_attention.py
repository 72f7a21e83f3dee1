"""Attention on a CPU without the weights P in memory (Dao et al. 2022, "FlashAttention").

As in numpy_attention.py a block of queries of one sequence meets the keys it may see. Here what lies between the
products is one pass, and instead of P one number a row is kept, log Σ exp: the way back computes P again from it, which
is cheaper than to fetch it from memory, and the memory needed grows with T, not with T².
"""

import math

import numpy as np

from tinygrad_lm.kernels.numba_compile import compiled, exp, f4
from tinygrad_lm.kernels.numpy_attention import attention_in_blocks
from tinygrad_lm.ops.attention import attention, check_heads

ROWS = 64  # queries a block


@attention.kernel("cpu")
def attention_in_one_pass(q, k, v, *, causal=True, p=0.0, key=None):
    """The rule of ops/attention.py, for float32 without dropout of the weights."""
    if p or q.dtype != f4:
        return attention_in_blocks(q, k, v, causal=causal, p=p, key=key)
    B, T, H, D = check_heads(q, k, v, causal)
    S, G = k.shape[1:3]
    R, scale = H // G, f4(1 / math.sqrt(D))
    y, lse = np.empty_like(q, order="C"), np.empty((B, G, T * R), f4)

    def blocks():
        """Sequence, its queries, and the number of keys that the first of them sees."""
        for b in range(B):
            for start in range(0, T, ROWS):
                yield b, slice(start, min(start + ROWS, T)), start + 1 + S - T if causal else S

    def rows(x):
        """(n, H, D) -> (G, n R, D): for each key head its R queries at each position. A view where R is 1."""
        return x.reshape(len(x), G, R, D).swapaxes(0, 1).reshape(G, len(x) * R, D)

    def unrows(x, n):
        """(G, n R, D) -> (n, H, D)."""
        return x.reshape(G, n, R, D).swapaxes(0, 1).reshape(n, H, D)

    def scores(b, here, first):
        """Keys of the block, its part of lse, and q kᵀ: (G, seen, D), (G, n R), (G, n R, seen)."""
        seen = first + here.stop - here.start - 1 if causal else S
        keys = k[b, :seen].swapaxes(0, 1)
        return keys, lse[b, :, here.start * R : here.stop * R], rows(q[b, here]) @ keys.swapaxes(1, 2)

    for b, here, first in blocks():
        keys, total, z = scores(b, here, first)
        softmax(z, scale, first, R if causal else 0, total)
        y[b, here] = unrows(z @ v[b, : keys.shape[1]].swapaxes(0, 1), here.stop - here.start)

    def backward(dy):
        dq, dk, dv = np.empty_like(y), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for b, here, first in blocks():
            keys, total, z = scores(b, here, first)
            seen, dyb = keys.shape[1], rows(dy[b, here])
            dz = dyb @ v[b, :seen].transpose(1, 2, 0)  # dP
            softmax_backward(z, dz, scale, first, R if causal else 0, total)  # z is P then
            dv[b, :seen] += (z.swapaxes(1, 2) @ dyb).swapaxes(0, 1)
            dq[b, here] = unrows(dz @ keys, here.stop - here.start)
            dk[b, :seen] += (dz.swapaxes(1, 2) @ rows(q[b, here])).swapaxes(0, 1)
        return dq, dk, dv

    return y, backward


@compiled
def softmax(z, scale, first, repeat, lse):
    """In place P = softmax(scale z) over each row's visible keys and 0 beyond; lse = log Σ exp(scale z).

    Row i sees the first `first + i // repeat` keys; all see `first` if repeat is 0.
    """
    for g in range(z.shape[0]):
        for i in range(z.shape[1]):
            row, seen = z[g, i], first + (i // repeat if repeat else 0)
            largest = row[0]
            for j in range(seen):
                largest = max(largest, row[j])
            total = f4(0)
            for j in range(seen):
                row[j] = exp(scale * (row[j] - largest))
                total += row[j]
            for j in range(seen):
                row[j] /= total
            row[seen:] = f4(0)
            lse[g, i] = scale * largest + np.log(total)


@compiled
def softmax_backward(z, dP, scale, first, repeat, lse):
    """In place z = P = exp(scale z − lse), and dP becomes dz = P (dP − Σ P dP) scale."""
    for g in range(z.shape[0]):
        for i in range(z.shape[1]):
            P, dz, seen = z[g, i], dP[g, i], first + (i // repeat if repeat else 0)
            mean = f4(0)
            for j in range(seen):
                P[j] = exp(scale * P[j] - lse[g, i])
                mean += P[j] * dz[j]
            for j in range(seen):
                dz[j] = P[j] * (dz[j] - mean) * scale
            P[seen:] = f4(0)
            dz[seen:] = f4(0)
