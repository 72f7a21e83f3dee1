"""The MLP's activations in one pass each way."""

import math

import numpy as np

from tinygrad_lm.kernels.numba.again import remember
from tinygrad_lm.kernels.numba.compile import exp, f4, inlined
from tinygrad_lm.kernels.numba.halves import NONE, number, round_to
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.activation import gelu_tanh, relu_squared, silu

A, B = f4(2 * math.sqrt(2 / math.pi)), f4(0.044715)


@gelu_tanh.on("cpu", "float32")
def gelu_tanh_in_one_pass(x):
    """(1 + tanh u)/2 is the logistic function σ of 2u, so y = x σ(2u) and dx = dy (σ + x σ (1 − σ) 2u′)."""
    return one_pass(gelu_tanh_forward, gelu_tanh_backward, x)


@relu_squared.on("cpu", "float32")
def relu_squared_in_one_pass(x):
    """y = max(x, 0)²        dx = 2 dy max(x, 0)"""
    return one_pass(relu_squared_forward, relu_squared_backward, x)


@silu.on("cpu", "float32")
def silu_in_one_pass(x):
    """y = x σ(x)        dx = dy (σ + x σ (1 − σ))"""
    return one_pass(silu_forward, silu_backward, x)


def one_pass(forward, backward, x, halves=None):
    """The contract of a rule for a pair of loops over flat arrays. Only x is kept.

    halves: an array for the rounded x, which is kept instead: then the gradient is that at the rounded x
    """
    x = np.asarray(x, order="C")
    kept, rounded = (x, NONE) if halves is None else (halves, halves.reshape(-1))

    def result():
        y = np.empty_like(x)
        forward(x.size, LEAST, x.reshape(-1), y.reshape(-1), rounded)
        return y

    def gradients(dy):
        dx = np.empty(kept.shape, f4)
        backward(dx.size, LEAST, np.asarray(dy, order="C").reshape(-1), kept.reshape(-1), dx.reshape(-1))
        return (dx,)

    y = result()
    if halves is None:
        remember(y, result)
    return y, gradients


@inlined
def logistic(x):
    """σ(x)."""
    return f4(1) / (f4(1) + exp(-x))


@inlined
def gate(x):
    """σ(2u)."""
    return logistic(A * x * (f4(1) + B * x * x))


@inlined
def gelu_tanh_of(x):
    return x * gate(x)


@inlined
def gelu_tanh_slope(x):
    """dy/dx."""
    s = gate(x)
    return s + x * s * (f4(1) - s) * A * (f4(1) + f4(3) * B * x * x)


@inlined
def relu_squared_of(x):
    return max(x, f4(0)) * max(x, f4(0))


@inlined
def silu_of(x):
    return x * logistic(x)


@shared
def gelu_tanh_forward(start, stop, x, y, halves):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = gelu_tanh_of(x[i])
    round_to(halves[start:stop], x)


@shared
def gelu_tanh_backward(start, stop, dy, x, dx):
    dy, x, dx = dy[start:stop], x[start:stop], dx[start:stop]
    for i in range(x.size):
        dx[i] = dy[i] * gelu_tanh_slope(number(x[i]))


@shared
def relu_squared_forward(start, stop, x, y, halves):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = relu_squared_of(x[i])
    round_to(halves[start:stop], x)


@shared
def relu_squared_backward(start, stop, dy, x, dx):
    dy, x, dx = dy[start:stop], x[start:stop], dx[start:stop]
    for i in range(x.size):
        r = number(x[i])
        dx[i] = f4(2) * dy[i] * r if r > 0 else f4(0)


@shared
def silu_forward(start, stop, x, y, halves):
    x, y = x[start:stop], y[start:stop]
    for i in range(x.size):
        y[i] = silu_of(x[i])
    round_to(halves[start:stop], x)


@shared
def silu_backward(start, stop, dy, x, dx):
    dy, x, dx = dy[start:stop], x[start:stop], dx[start:stop]
    for i in range(x.size):
        r = number(x[i])
        s = logistic(r)
        dx[i] = dy[i] * (s + r * s * (f4(1) - s))
