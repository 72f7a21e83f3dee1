"""Muon's update with products of bfloat16 numbers, all cores on one matrix after the other.

Jordan et al. 2024 compute all of it in bfloat16; here only products round: momentum, sums and weights are float32.

Above the interval that a polynomial is best for, it explodes, and rounding makes of a singular value of 1, the largest,
up to 1.004: where one direction is all, and all its entries round the same way, the definition's polynomials end at
some hundreds. So all but the last are those of σ/1.01, as in Amsel et al. 2025.
"""

import math

from tinygrad_lm.kernels.bfloat16.tiles import DTYPES, aligned, columns, product, rows
from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.flat import multiply
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.optim.clipping import sum_of_squares
from tinygrad_lm.optim.muon import COEFFICIENTS, update_all

SAFE = 1.01
POLYNOMIALS = [(a / SAFE, b / SAFE**3, c / SAFE**5) for a, b, c in COEFFICIENTS[:-1]] + COEFFICIENTS[-1:]


@update_all.on("cpu", *DTYPES)
def muon_in_bfloat16(_, matrices, lr, momentum):
    """The definition of optim/muon.py."""
    for w, g, m in matrices:
        sum_of(momentum, m, 1, g, m)
        direction = orthogonal(sum_of(1, g, momentum, m, aligned(g.shape)))
        sum_of(1, w, -lr * math.sqrt(max(1, w.shape[1] / w.shape[0])), direction, w)


def orthogonal(x):
    """O(x), written to x. O(xᵀ)ᵀ = O(x): s is the smaller of x xᵀ and xᵀ x, and stands on that side of x."""
    n, tall = min(x.shape), x.shape[0] > x.shape[1]
    multiply(x.size, LEAST, x.reshape(-1), f4(1 / (math.sqrt(sum_of_squares(x.reshape(-1))) + 1e-7)))
    for a, b, c in POLYNOMIALS:
        left, right = rows(x), columns(x)
        s = product(*((rows(x.T), right) if tall else (left, columns(x.T))), aligned((n, n)))
        s = sum_of(b, s, c, product(rows(s), columns(s), aligned((n, n))), s)
        multiply(x.size, LEAST, x.reshape(-1), f4(a))
        product(*((left, columns(s)) if tall else (rows(s), right)), x, add=True)
    return x


def sum_of(a, x, b, y, out):
    """out = a x + b y, for arrays of one shape. Returns out."""
    add_weighted(x.size, LEAST, f4(a), x.reshape(-1), f4(b), y.reshape(-1), out.reshape(-1))
    return out


@shared
def add_weighted(start, stop, a, x, b, y, out):
    x, y, out = x[start:stop], y[start:stop], out[start:stop]
    for i in range(out.size):
        out[i] = a * x[i] + b * y[i]
