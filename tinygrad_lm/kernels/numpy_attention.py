"""Attention on a CPU, in blocks that fit into the cache, without the half that causality masks.

The rule in ops/attention.py makes several passes over all (B, H, T, S) weights, which come from memory every time. Here
a block of queries of one sequence meets the keys it may see; everything between the products happens in the cache.
"""

import math

import numpy as np

from tinygrad_lm.ops.attention import attention, check_heads

ROWS = 64  # queries a block


@attention.kernel("cpu")
def attention_in_blocks(q, k, v, *, causal=True, p=0.0, key=None):
    """The rule of ops/attention.py, which is called for what is rare: dropout of the weights, and half precision."""
    if p or q.dtype.itemsize == 2:
        return attention.rule(q, k, v, causal=causal, p=p, key=key)
    B, T, H, D = check_heads(q, k, v, causal)
    S, G = k.shape[1:3]
    scale = 1 / math.sqrt(D)
    y, saved = np.empty_like(q, order="C"), []

    def blocks():
        """Sequence, first and last query, and the number of keys that the last query sees."""
        for b in range(B):
            for start in range(0, T, ROWS):
                stop = min(start + ROWS, T)
                yield b, slice(start, stop), stop + S - T if causal else S

    def rows(x):
        """(n, H, D) -> (G, n R, D): for each key head its R = H / G queries at each position. A view where R is 1."""
        return x.reshape(len(x), G, H // G, D).swapaxes(0, 1).reshape(G, len(x) * (H // G), D)

    def unrows(x, n):
        """(G, n R, D) -> (n, H, D)."""
        return x.reshape(G, n, H // G, D).swapaxes(0, 1).reshape(n, H, D)

    for b, here, seen in blocks():
        n = here.stop - here.start
        z = rows(q[b, here] * scale) @ k[b, :seen].transpose(1, 2, 0)  # (G, n R, seen)
        if causal:
            future = np.repeat(np.triu(np.ones((n, n), bool), 1), H // G, axis=0)
            z[:, :, seen - n :][:, future] = -np.inf
        z -= z.real.max(-1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(-1, keepdims=True)
        y[b, here] = unrows(z @ v[b, :seen].swapaxes(0, 1), n)
        saved.append(z)

    def backward(dy):
        dq, dk, dv = np.empty_like(y), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for (b, here, seen), P in zip(blocks(), saved, strict=True):
            dyb = rows(dy[b, here])
            dv[b, :seen] += (P.swapaxes(1, 2) @ dyb).swapaxes(0, 1)
            dz = dyb @ v[b, :seen].transpose(1, 2, 0)
            dz -= (dyb * rows(y[b, here])).sum(-1, keepdims=True)
            dz *= P
            dz *= scale
            dq[b, here] = unrows(dz @ k[b, :seen].swapaxes(0, 1), here.stop - here.start)
            dk[b, :seen] += (dz.swapaxes(1, 2) @ rows(q[b, here])).swapaxes(0, 1)
        return dq, dk, dv

    return y, backward
