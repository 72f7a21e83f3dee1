"""Rotary positions in one pass."""

import numpy as np

from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.rotary import angles, check_pairs, rotary


@rotary.on("cpu", "float32")
def rotary_in_one_pass(x, *, base=10000.0, start=0, scaling=()):
    """The rule of ops/rotary.py."""
    check_pairs(x)
    cos, sin = (a[:, 0] for a in angles(np, x.shape[1], x.shape[3], base, start, scaling, x.dtype))  # (T, D/2)

    def turned(x, sin):
        y = np.empty_like(x, order="C")
        B, T, H, D = x.shape
        turn(B * T, max(1, LEAST // max(1, H * D)), np.ascontiguousarray(x), cos, sin, y)
        return y

    return turned(x, sin), lambda dy: (turned(dy, -sin),)


@shared
def turn(start, stop, x, cos, sin, y):
    _, T, H, D = x.shape
    half = D // 2
    for position in range(start, stop):
        b, t = divmod(position, T)
        for h in range(H):
            x1, x2, y1, y2 = x[b, t, h, :half], x[b, t, h, half:], y[b, t, h, :half], y[b, t, h, half:]
            for i in range(half):
                y1[i] = x1[i] * cos[t, i] - x2[i] * sin[t, i]
                y2[i] = x1[i] * sin[t, i] + x2[i] * cos[t, i]
