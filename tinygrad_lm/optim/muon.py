"""Muon: for the matrices of the hidden layers, momentum made orthogonal."""

import math
import operator
from typing import ClassVar

from tinygrad_lm.backend import array_module, device_of, parallel, to_device


class Muon:
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    m ← μ m + g                              momentum
    w ← w − η √max(1, out/in) O(g + μ m)     Nesterov's look ahead, made orthogonal

    Gradient matrices are dominated by a few directions. O(·) keeps the directions and makes their sizes equal, so that
    rare ones are learned as fast. For matrices (in, out) only; embeddings, head and vectors are for AdamW.
    kernels: other matrix products than `@`, by device.
    """

    kernels: ClassVar = {}

    def __init__(self, parameters, names, lr=0.02, momentum=0.95):
        self.parameters, self.lr, self.momentum = parameters, lr, momentum
        names = [name for name in parameters if name in set(names)]
        xp, masters = array_module(parameters.master), parameters.masters()
        self.m = xp.zeros(sum(parameters[name].size for name in names), parameters.master.dtype)
        self.matrices, start = [], 0
        for name in names:
            w = masters[name]
            m = self.m[start : start + w.size].reshape(w.shape)
            self.matrices.append((w, parameters[name].grad, m))
            start += w.size

    def step(self, factor=1.0):
        """One update with learning rate lr · factor."""
        self.apply(self.numbers(factor))
        self.parameters.round()

    def numbers(self, factor):
        """What the next update has of its own: the learning rate."""
        return [self.lr * factor]

    def apply(self, numbers):
        """The update with these numbers, as AdamW's."""
        (lr,) = numbers
        multiply = self.kernels.get(device_of(self.m), operator.matmul)

        def update(w, g, m):
            m *= self.momentum
            m += g
            n_in, n_out = w.shape
            step = orthogonalize(g + self.momentum * m, multiply=multiply)
            step *= lr * math.sqrt(max(1, n_out / n_in))
            w -= step

        parallel(update, *zip(*self.matrices, strict=True))

    def state(self):
        """What a resumed run needs: arrays by name."""
        return {"m": self.m}

    def load_state(self, state):
        """Continue from what `state` returned."""
        self.m[...] = to_device(state["m"], device_of(self.m))


# The best odd polynomials for three steps from singular values in [0.001, 1]: Amsel et al. 2025, "The Polar Express".
COEFFICIENTS = [(8.2872, -23.5959, 17.3004), (4.1071, -2.9478, 0.5448), (3.9487, -2.9089, 0.5518)]


def orthogonalize(x, coefficients=COEFFICIENTS, multiply=operator.matmul):
    """A matrix with x's singular vectors, and singular values near 1 if they were above 1/300 of x's norm.

    Newton–Schulz iteration: an odd polynomial of a matrix acts on its singular values alone, σ ↦ aσ + bσ³ + cσ⁵. Near 1
    is between 0.18 and 1.87. That is rough, and good enough: more steps with the paper's next coefficients, or Jordan's
    five with fixed ones, train no better.
    """
    if x.shape[0] > x.shape[1]:
        return orthogonalize(x.T, coefficients, multiply).T
    xp = array_module(x)
    x = x / (xp.sqrt((x * x).sum()) + 1e-7)  # no singular value above 1
    for a, b, c in coefficients:
        s = multiply(x, x.T)
        x = a * x + multiply(b * s + c * multiply(s, s), x)
    return x
