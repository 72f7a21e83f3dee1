"""Muon: for the matrices of the hidden layers, momentum made orthogonal. The page trains them with AdamW."""

import math
from collections.abc import Iterable

from tinygrad_lm.backend import array_module, wide
from tinygrad_lm.engine.replaceable import replaceable
from tinygrad_lm.errors import ConfigError, DtypeError, check_ranges
from tinygrad_lm.optim.optimizer import Optimizer, is_number


class Muon(Optimizer):
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    m ← μ m + g                              momentum
    w ← w − η √max(1, out/in) O(g + μ m)     Nesterov's look ahead, made orthogonal

    Gradient matrices are dominated by a few directions. O(·) keeps the directions and makes their sizes equal, so that
    rare ones are learned as fast. For matrices (in, out) only; embeddings, head and vectors are for AdamW.

    Beside torch.optim.Muon: there is no decay, and O's singular values have a root mean square of 1.2 for square
    Gaussian matrices, torch's of 0.9. So a learning rate from there, times 0.75, makes steps of the same size here.
    """

    kept, whole = ("m",), True

    def __init__(self, parameters: Iterable, lr: float = 0.02, momentum: float = 0.95):
        super().__init__(parameters)
        ranges = {"momentum": (momentum, "in [0, 1)", is_number(momentum, 1))}
        check_ranges("Muon", {"lr": (lr, "at least 0 and finite", is_number(lr))} | ranges)
        if wrong := [f"{p.node.name} {p.shape}" for p in self.parameters if p.ndim != 2]:
            raise ConfigError(f"Muon: it trains matrices, found {', '.join(wrong)}\n  hint : give these to AdamW")
        self.lr, self.momentum = lr, momentum
        self.parameters = sorted(self.parameters, key=lambda p: self.flat.slices[p.node.name].start)
        self.pieces = [(self.flat.slices[p.node.name], p.shape) for p in self.parameters]
        self.m = self.moments()

    def numbers(self, factor: float) -> list:
        """The learning rate."""
        return [self.lr * factor]

    def apply(self, numbers: list) -> None:
        """The update with these numbers, which may be an array where the weights are."""
        (lr,) = numbers
        matrices = [[x.reshape(shape) for x in arrays] for *arrays, shape in self.runs(self.m)]
        update_all(self.m, matrices, lr, self.momentum)


@replaceable
def update_all(_, matrices, lr, momentum):
    """`update` for each (w, g, m)."""
    for w, g, m in matrices:
        update(w, g, m, lr, momentum)


def update(w, g, m, lr, momentum):
    """The two lines above, in place, for one matrix (in, out)."""
    m *= momentum
    m += g
    n_in, n_out = w.shape
    w -= lr * math.sqrt(max(1, n_out / n_in)) * orthogonalize(g + momentum * m)


# The best odd polynomials for three steps from singular values in [0.001, 1]: Amsel et al. 2025, "The Polar Express".
COEFFICIENTS = [(8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518)]


def orthogonalize(x, coefficients=COEFFICIENTS):
    """A matrix with x's singular vectors, and singular values near 1 if they were above 1/300 of x's norm.

    Newton–Schulz iteration: an odd polynomial of a matrix acts on its singular values alone, σ ↦ aσ + bσ³ + cσ⁵. Near 1
    is between 0.18 and 1.87.
    """
    if wide(x.dtype) != x.dtype:
        raise DtypeError(f"Muon: {x.dtype} rounds singular values to above 1, where polynomials explode; use float32")
    if x.shape[0] > x.shape[1]:
        return orthogonalize(x.T, coefficients).T
    xp = array_module(x)
    x = x / (xp.sqrt((x * x).sum()) + 1e-7)  # no singular value above 1
    for a, b, c in coefficients:
        s = product(x, x.T)
        x = a * x + product(b * s + c * product(s, s), x)
    return x


@replaceable
def product(a, b):
    """The product of two matrices."""
    return a @ b
