"""What is kept for the backward pass, in bfloat16: half the bytes of all that lies between two layers.

A bfloat16 number is the upper half of the bits of a float32 number. For attention nothing is lost, since its products
round q, k and v anyway; an activation's gradient is that at the rounded x.
"""

import numpy as np

from tinygrad_lm.kernels.bfloat16.tiles import DTYPES, aligned
from tinygrad_lm.kernels.numba.activation import (
    gelu_tanh_backward,
    gelu_tanh_forward,
    relu_squared_backward,
    relu_squared_forward,
)
from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.ops.activation import gelu_tanh, relu_squared

u2, u4 = np.uint16, np.uint32


def kept(x):
    """The bfloat16 numbers nearest to those of a float32 array, as integers of 16 bits, in C order."""
    x = np.asarray(x, order="C")
    halves = aligned(x.shape, u2)
    round_all(x.size, LEAST, x.reshape(-1), halves.reshape(-1))
    return halves


def widened(halves):
    """What `kept` was given, rounded."""
    x = aligned(halves.shape)
    widen_all(x.size, LEAST, halves.reshape(-1), x.reshape(-1))
    return x


@shared
def round_all(start, stop, x, halves):
    x, halves = x[start:stop], halves[start:stop]
    for i in range(x.size):
        bits = f4(x[i]).view(u4)
        up = (bits + u4(0x7FFF) + ((bits >> u4(16)) & u4(1))) >> u4(16)  # of two equally near the even one
        halves[i] = u2(up if x[i] == x[i] else u4(0x7FC0))  # NaN stays NaN


@shared
def widen_all(start, stop, halves, x):
    halves, x = halves[start:stop], x[start:stop]
    for i in range(x.size):
        x[i] = u4(u4(halves[i]) << u4(16)).view(f4)


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
    y = aligned(x.shape)
    forward(x.size, LEAST, np.asarray(x, order="C").reshape(-1), y.reshape(-1))
    halves = kept(x)

    def gradients(dy):
        dx = aligned(halves.shape)
        dy = np.asarray(dy, order="C").reshape(-1)
        backward(dy.size, LEAST, dy, widened(halves).reshape(-1), dx.reshape(-1))
        return (dx,)

    return y, gradients
