"""Rotary positions on a GPU. See rotary.cu."""

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, for_each, i4, i8, kernel, width
from tinygrad_lm.ops.rotary import angles, check_pairs, rotary


@rotary.on("cuda", "float32", "bfloat16")
def rotary_on_gpu(x, *, base=10000.0, start=0, scaling=()):
    """An implementation of `rotary` of ops/rotary.py; cos and sin are float32, for half precision too."""
    check_pairs(x)
    if not covered(x):
        return NotImplemented
    xp, (_, T, H, D) = array_module(x), x.shape
    cos, sin = angles(xp, T, D, base, start, scaling, np.dtype(f4))

    def turned(x, sign):
        x = contiguous(x)
        y, W, pairs = xp.empty_like(x), width(D // 2, x), x.size // 2
        launch = kernel("rotary", "rotary", x, W)
        launch(*for_each(pairs, W), x, cos, sin, y, i8(pairs), i4(T), i4(H), i4(D // 2), f4(sign))
        return y

    return turned(x, 1), lambda dy: (turned(dy, -1),)
