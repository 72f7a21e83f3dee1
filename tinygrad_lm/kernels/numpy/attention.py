"""Attention on a CPU, in blocks that fit into the cache, without the half that causality masks.

The rule in ops/attention.py makes several passes over all (B, H, T, S) weights, which come from memory every time. Here
a block of queries meets the keys it may see, and everything between the products happens in the cache. Short sequences
share a block, for every step of Python costs a microsecond in which the other threads wait. Where documents are packed,
a block leaves out the keys that come before all its queries' starts.
"""

import math

import numpy as np

from tinygrad_lm.ops.attention import attention, check_inputs

ROWS = 64  # queries a block
CACHE = 2**17  # scores a block: a core's second-level cache holds them and their gradients


@attention.on("cpu", "float32", "float64")
def attention_in_blocks(q, k, v, *, causal=True, document_starts=None, p=0.0, key=None):
    """The rule of ops/attention.py, without dropout of the weights."""
    if p:
        return NotImplemented
    starts = document_starts
    _, _, H, D = check_inputs(q, k, v, causal, starts)
    S, G = k.shape[1:3]
    R, scale = H // G, 1 / math.sqrt(D)
    y, saved = np.empty_like(q, order="C"), []
    for b, here, n, _, keys in blocks(q, S, causal, starts):
        z = rows(q[b, here] * scale, G) @ k[b, keys].transpose(0, 2, 3, 1)  # (b, G, n R, keys)
        if causal and n > 1:
            future = np.repeat(np.triu(np.ones((n, n), bool), 1), R, axis=0)
            np.copyto(z[..., -n:], -np.inf, where=future)
        if starts is not None:
            before = np.arange(keys.start, keys.stop) < starts[b, here, None]
            np.copyto(z, -np.inf, where=np.repeat(before, R, axis=1)[:, None])
        z -= z.real.max(-1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(-1, keepdims=True)
        y[b, here] = unrows(z @ v[b, keys].swapaxes(1, 2), n)
        saved.append(z)

    def backward(dy):
        dq, dk, dv = np.empty_like(y), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for (b, here, n, _, keys), P in zip(blocks(q, S, causal, starts), saved, strict=True):
            dyb = rows(dy[b, here], G)
            dv[b, keys] += (P.swapaxes(2, 3) @ dyb).swapaxes(1, 2)
            dz = dyb @ v[b, keys].transpose(0, 2, 3, 1)
            dz -= (dyb * rows(y[b, here], G)).sum(-1, keepdims=True)
            dz *= P
            dz *= scale
            dq[b, here] = unrows(dz @ k[b, keys].swapaxes(1, 2), n)
            dk[b, keys] += (dz.swapaxes(2, 3) @ rows(q[b, here], G)).swapaxes(1, 2)
        return dq, dk, dv

    return y, backward


def blocks(q, S, causal, starts):
    """Some sequences, some of their queries, how many; how many keys the first of them sees, and which ones all see."""
    B, T, H, _ = q.shape
    sequences = max(1, CACHE // max(1, H * min(T, ROWS) * S))
    for b in range(0, B, sequences):
        for start in range(0, T, ROWS):
            n = min(ROWS, T - start)
            some, here = slice(b, b + sequences), slice(start, start + n)
            first, last = (start + 1 + S - T, start + n + S - T) if causal else (S, S)
            begin = 0 if starts is None else int(starts[some, here].min())
            yield some, here, n, first - begin, slice(begin, last)


def rows(x, G):
    """(b, n, H, D) -> (b, G, n R, D): for each key head its R = H / G queries at each position. A view where R is 1."""
    b, n, H, D = x.shape
    return x.reshape(b, n, G, H // G, D).swapaxes(1, 2).reshape(b, G, n * (H // G), D)


def unrows(x, n):
    """(b, G, n R, D) -> (b, n, H, D)."""
    b, G, _, D = x.shape
    return x.reshape(b, G, n, -1, D).swapaxes(1, 2).reshape(b, n, -1, D)
