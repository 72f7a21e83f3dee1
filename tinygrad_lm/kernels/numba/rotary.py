"""Rotary positions in one pass."""

import numpy as np

from tinygrad_lm.kernels.numba.compile import compiled
from tinygrad_lm.ops.rotary import angles, check_pairs, rotary


@rotary.on("cpu", "float32")
def rotary_in_one_pass(x, *, base=10000.0, start=0, scaling=()):
    """The rule of ops/rotary.py."""
    check_pairs(x)
    cos, sin = (a[:, 0] for a in angles(np, x.shape[1], x.shape[3], base, start, scaling, x.dtype))  # (T, D/2)

    def turned(x, sin):
        y = np.empty_like(x, order="C")
        turn(np.ascontiguousarray(x), cos, sin, y)
        return y

    return turned(x, sin), lambda dy: (turned(dy, -sin),)


@compiled
def turn(x, cos, sin, y):
    B, T, H, D = x.shape
    half = D // 2
    for b in range(B):
        for t in range(T):
            for h in range(H):
                for i in range(half):
                    x1, x2 = x[b, t, h, i], x[b, t, h, half + i]
                    y[b, t, h, i] = x1 * cos[t, i] - x2 * sin[t, i]
                    y[b, t, h, half + i] = x1 * sin[t, i] + x2 * cos[t, i]
