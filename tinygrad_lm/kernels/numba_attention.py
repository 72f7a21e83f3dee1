"""Attention on a CPU without the weights P in memory (Dao et al. 2022, "FlashAttention").

In the blocks of numpy_attention.py. What lies between the products is one pass here, and instead of P one number a row
is kept, log Σ exp: the way back computes P again from it, which is cheaper than to fetch it from memory, and the memory
needed grows with T, not with T².
"""

import math

import numpy as np

from tinygrad_lm.kernels.numba_compile import compiled, exp, f4
from tinygrad_lm.kernels.numpy_attention import attention_in_blocks, blocks, rows, unrows
from tinygrad_lm.ops.attention import attention, check_heads


@attention.kernel("cpu")
def attention_in_one_pass(q, k, v, *, causal=True, p=0.0, key=None):
    """The rule of ops/attention.py, for float32 without dropout of the weights."""
    if p or q.dtype != f4:
        return attention_in_blocks(q, k, v, causal=causal, p=p, key=key)
    B, T, H, D = check_heads(q, k, v, causal)
    S, G = k.shape[1:3]
    R, scale = H // G, f4(1 / math.sqrt(D))
    repeat = R if causal else 0
    y, lse = np.empty_like(q, order="C"), np.empty((B, G, T * R), f4)

    for b, here, n, first, last in blocks(q, S, causal):
        z = rows(q[b, here], G) @ k[b, :last].transpose(0, 2, 3, 1)  # (b, G, n R, last)
        softmax(z, scale, first, repeat, lse[b, :, here.start * R : here.stop * R])
        y[b, here] = unrows(z @ v[b, :last].swapaxes(1, 2), n)

    def backward(dy):
        dq, dk, dv = np.empty_like(y), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for b, here, n, first, last in blocks(q, S, causal):
            qb, kb, dyb = rows(q[b, here], G), k[b, :last].swapaxes(1, 2), rows(dy[b, here], G)
            P = qb @ kb.swapaxes(2, 3)
            dz = dyb @ v[b, :last].transpose(0, 2, 3, 1)
            softmax_backward(P, dz, scale, first, repeat, lse[b, :, here.start * R : here.stop * R])
            dv[b, :last] += (P.swapaxes(2, 3) @ dyb).swapaxes(1, 2)
            dq[b, here] = unrows(dz @ kb, n)
            dk[b, :last] += (dz.swapaxes(2, 3) @ qb).swapaxes(1, 2)
        return dq, dk, dv

    return y, backward


@compiled
def softmax(z, scale, first, repeat, lse):
    """In place P = softmax(scale z) over each row's visible keys and 0 beyond; lse = log Σ exp(scale z).

    Row i sees the first `first + i // repeat` keys; all see `first` if repeat is 0.
    """
    B, G, N, _ = z.shape
    for bg in range(B * G):
        for i in range(N):
            b, g = divmod(bg, G)
            row, seen = z[b, g, i], first + (i // repeat if repeat else 0)
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
            lse[b, g, i] = scale * largest + np.log(total)


@compiled
def softmax_backward(z, dP, scale, first, repeat, lse):
    """In place z becomes P = exp(scale z − lse), and dP becomes dz = P (dP − Σ P dP) scale."""
    B, G, N, _ = z.shape
    for bg in range(B * G):
        for i in range(N):
            b, g = divmod(bg, G)
            P, dz, seen = z[b, g, i], dP[b, g, i], first + (i // repeat if repeat else 0)
            mean = f4(0)
            for j in range(seen):
                P[j] = exp(scale * P[j] - lse[b, g, i])
                mean += P[j] * dz[j]
            for j in range(seen):
                dz[j] = P[j] * (dz[j] - mean) * scale
            P[seen:] = f4(0)
            dz[seen:] = f4(0)
