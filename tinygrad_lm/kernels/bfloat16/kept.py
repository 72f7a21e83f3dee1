"""What is kept for the backward pass, in bfloat16: half the bytes of all that lies between two layers.

A bfloat16 number is the upper half of the bits of a float32 number. For attention nothing is lost, since its products
round q, k and v anyway; an activation's gradient is that at the rounded x.
"""

import numpy as np

from tinygrad_lm.kernels.bfloat16.tiles import DTYPES
from tinygrad_lm.kernels.numba.activation import gate, gelu_tanh_slope
from tinygrad_lm.kernels.numba.compile import f4, inlined
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.activation import gelu_tanh, relu_squared

u2, u4 = np.uint16, np.uint32


def kept(x):
    """The bfloat16 numbers nearest to those of a float32 array, as integers of 16 bits, in C order."""
    x = np.asarray(x, order="C")
    halves = np.empty(x.shape, u2)
    round_all(x.size, LEAST, x.reshape(-1), halves.reshape(-1))
    return halves


def widened(halves):
    """What `kept` was given, rounded."""
    x = np.empty(halves.shape, f4)
    widen_all(x.size, LEAST, halves.reshape(-1), x.reshape(-1))
    return x


@inlined
def half(x):
    """The bits of the bfloat16 number nearest to a float32 number; of two equally near the even one, NaN for NaN."""
    bits = f4(x).view(u4)
    up = (bits + u4(0x7FFF) + ((bits >> u4(16)) & u4(1))) >> u4(16)
    return u2(up if x == x else u4(0x7FC0))


@inlined
def whole(half):
    """The float32 number that is the bfloat16 number of these bits."""
    return u4(u4(half) << u4(16)).view(f4)


@shared
def round_all(start, stop, x, halves):
    x, halves = x[start:stop], halves[start:stop]
    for i in range(x.size):
        halves[i] = half(x[i])


@shared
def widen_all(start, stop, halves, x):
    halves, x = halves[start:stop], x[start:stop]
    for i in range(x.size):
        x[i] = whole(halves[i])


@gelu_tanh.on("cpu", *DTYPES)
def gelu_tanh_of_kept(x):
    """As numba/activation.py's."""
    return activation(gelu_tanh_forward, gelu_tanh_backward, x)


@relu_squared.on("cpu", *DTYPES)
def relu_squared_of_kept(x):
    """As numba/activation.py's."""
    return activation(relu_squared_forward, relu_squared_backward, x)


def activation(forward, backward, x):
    """The contract of a rule for a pair of loops over flat arrays."""
    y, halves = np.empty(x.shape, f4), np.empty(x.shape, u2)
    forward(x.size, LEAST, np.asarray(x, order="C").reshape(-1), y.reshape(-1), halves.reshape(-1))

    def gradients(dy):
        dx = np.empty(halves.shape, f4)
        backward(dx.size, LEAST, np.asarray(dy, order="C").reshape(-1), halves.reshape(-1), dx.reshape(-1))
        return (dx,)

    return y, gradients


@shared
def gelu_tanh_forward(start, stop, x, y, halves):
    x, y, halves = x[start:stop], y[start:stop], halves[start:stop]
    for i in range(x.size):
        y[i], halves[i] = x[i] * gate(x[i]), half(x[i])


@shared
def gelu_tanh_backward(start, stop, dy, halves, dx):
    dy, halves, dx = dy[start:stop], halves[start:stop], dx[start:stop]
    for i in range(dx.size):
        dx[i] = dy[i] * gelu_tanh_slope(whole(halves[i]))


@shared
def relu_squared_forward(start, stop, x, y, halves):
    x, y, halves = x[start:stop], y[start:stop], halves[start:stop]
    for i in range(x.size):
        r = max(x[i], f4(0))
        y[i], halves[i] = r * r, half(x[i])


@shared
def relu_squared_backward(start, stop, dy, halves, dx):
    dy, halves, dx = dy[start:stop], halves[start:stop], dx[start:stop]
    for i in range(dx.size):
        dx[i] = f4(2) * dy[i] * max(whole(halves[i]), f4(0))
