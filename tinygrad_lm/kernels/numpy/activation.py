"""GELU on a CPU in two arrays: what the rule writes out in a dozen temporary ones is done in place."""

import math

import numpy as np

from tinygrad_lm.ops.activation import gelu_tanh

A, B = 2 * math.sqrt(2 / math.pi), 0.044715


@gelu_tanh.on("cpu", "float32", "float64")
def gelu_tanh_in_place(x):
    """(1 + tanh u)/2 is the logistic function σ of 2u, so y = x σ(2u) and dx = dy (σ + y (1 − σ) 2u′)."""
    if not x.ndim:
        return NotImplemented
    s = x * x
    s *= -A * B
    s -= A
    s *= x  # −2u
    with np.errstate(over="ignore"):  # 1/∞ is 0
        np.exp(s, out=s)
    s += 1
    np.divide(1, s, out=s)
    y = x * s

    def backward(dy):
        dx = x * x
        dx *= 3 * A * B
        dx += A
        dx *= y
        dx *= 1 - s
        dx += s
        dx *= dy
        return (dx,)

    return y, backward
