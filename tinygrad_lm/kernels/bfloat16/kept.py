"""What is kept for the backward pass, in bfloat16: half the bytes, as integers of 16 bits (numba/halves.py).

For attention nothing is lost, since its products round q, k and v anyway. Norms and activations: again.py.
"""

import numpy as np

from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.halves import half, number, u2
from tinygrad_lm.kernels.numba.together import LEAST, shared


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


@shared
def round_all(start, stop, x, halves):
    x, halves = x[start:stop], halves[start:stop]
    for i in range(x.size):
        halves[i] = half(x[i])


@shared
def widen_all(start, stop, halves, x):
    halves, x = halves[start:stop], x[start:stop]
    for i in range(x.size):
        x[i] = number(halves[i])
