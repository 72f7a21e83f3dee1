"""Attention on a CPU, in blocks that fit into the cache, without the half that causality masks.

The rule in ops/attention.py makes several passes over all (B, H, T, S) weights, which come from memory every time. Here
a block of queries meets the keys it may see, and everything between the products happens in the cache. Short sequences
share a block, for every step of Python costs a microsecond in which the other threads wait.
"""

import math

import numpy as np

from tinygrad_lm.ops.attention import attention, check_heads

ROWS = 64  # queries a block
CACHE = 2**17  # scores a block: a core's second-level cache holds them and their gradients


@attention.kernel("cpu")
def attention_in_blocks(q, k, v, *, causal=True, p=0.0, key=None):
    """The rule of ops/attention.py, which is called for what is rare: dropout of the weights, and half precision."""
    if p or q.dtype.itemsize == 2:
        return attention.rule(q, k, v, causal=causal, p=p, key=key)
    _, _, H, D = check_heads(q, k, v, causal)
    S, G = k.shape[1:3]
    scale = 1 / math.sqrt(D)
    y, saved = np.empty_like(q, order="C"), []
    for b, here, n, _, seen in blocks(q, S, causal):
        z = rows(q[b, here] * scale, G) @ k[b, :seen].transpose(0, 2, 3, 1)  # (b, G, n R, seen)
        if causal and n > 1:
            future = np.repeat(np.triu(np.ones((n, n), bool), 1), H // G, axis=0)
            np.copyto(z[..., seen - n :], -np.inf, where=future)
        z -= z.real.max(-1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(-1, keepdims=True)
        y[b, here] = unrows(z @ v[b, :seen].swapaxes(1, 2), n)
        saved.append(z)

    def backward(dy):
        dq, dk, dv = np.empty_like(y), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for (b, here, n, _, seen), P in zip(blocks(q, S, causal), saved, strict=True):
            dyb = rows(dy[b, here], G)
            dv[b, :seen] += (P.swapaxes(2, 3) @ dyb).swapaxes(1, 2)
            dz = dyb @ v[b, :seen].transpose(0, 2, 3, 1)
            dz -= (dyb * rows(y[b, here], G)).sum(-1, keepdims=True)
            dz *= P
            dz *= scale
            dq[b, here] = unrows(dz @ k[b, :seen].swapaxes(1, 2), n)
            dk[b, :seen] += (dz.swapaxes(2, 3) @ rows(q[b, here], G)).swapaxes(1, 2)
        return dq, dk, dv

    return y, backward


def blocks(q, S, causal):
    """Some sequences, some of their queries, how many, and the keys that the first and the last of them see."""
    B, T, H, _ = q.shape
    sequences = max(1, CACHE // max(1, H * min(T, ROWS) * S))
    for b in range(0, B, sequences):
        for start in range(0, T, ROWS):
            n = min(ROWS, T - start)
            first, last = (start + 1 + S - T, start + n + S - T) if causal else (S, S)
            yield slice(b, b + sequences), slice(start, start + n), n, first, last


def rows(x, G):
    """(b, n, H, D) -> (b, G, n R, D): for each key head its R = H / G queries at each position. A view where R is 1."""
    b, n, H, D = x.shape
    return x.reshape(b, n, G, H // G, D).swapaxes(1, 2).reshape(b, G, n * (H // G), D)


def unrows(x, n):
    """(b, G, n R, D) -> (b, n, H, D)."""
    b, G, _, D = x.shape
    return x.reshape(b, G, n, -1, D).swapaxes(1, 2).reshape(b, n, -1, D)
