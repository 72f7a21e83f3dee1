"""AdamW: gradient descent with steps scaled by the size of recent gradients. The page's, on long flat arrays."""

from collections.abc import Iterable

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.replaceable import replaceable
from tinygrad_lm.errors import check_ranges
from tinygrad_lm.optim.optimizer import Optimizer, is_number


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    m ← β₁ m + (1 − β₁) g            mean of recent gradients
    v ← β₂ v + (1 − β₂) g²           and of their squares
    w ← w − η λ w − η m̂ / (√v̂ + ε)   with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)

    m and v start at 0 and are too small by the factor 1 − βᵗ at first; the divisions undo that. Matrices decay, also
    those that the loss does not use, whose gradient is 0 (PyTorch skips them); vectors (biases and gains) don't.

    parameters  of an initialised module: `AdamW(model.parameters())`
    lr          η, the largest learning rate; `step(factor)` scales it
    """

    kept = "m", "v", "t"

    def __init__(self, parameters: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.1):  # fmt: skip
        super().__init__(parameters)
        pair = isinstance(betas, (tuple, list)) and len(betas) == 2
        ranges: dict = {"betas": (betas, "two numbers in [0, 1)", pair and all(is_number(beta, 1) for beta in betas))}
        ranges["eps"] = eps, "positive and finite", is_number(eps) and eps > 0
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            ranges[name] = value, "at least 0 and finite", is_number(value)
        check_ranges("AdamW", ranges)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        of_kind = lambda kind: [self.flat.slices[p.node.name] for p in self.parameters if (p.ndim >= 2) == kind]
        self.pieces = [(here, kind) for kind in (True, False) for here in self.flat.runs(of_kind(kind))]
        self.m, self.v, self.t = self.moments(), self.moments(), np.array(0)

    def numbers(self, factor: float) -> list:
        """The learning rate, and 1 − βᵗ for both β, which count the updates."""
        self.t += 1
        return [self.lr * factor, *(1 - beta ** self.t.item() for beta in self.betas)]

    def apply(self, numbers: list) -> None:
        """The update with these numbers, which may be an array where the weights are."""
        lr, *corrections = numbers
        for *arrays, matrices in self.runs(self.m, self.v):
            update(*arrays, lr, *self.betas, *corrections, self.eps, self.weight_decay if matrices else 0.0)


@replaceable
def update(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay):
    """The three lines above, in place, on flat arrays of one size. correction: 1 − βᵗ."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    if decay:
        w *= 1 - lr * decay
    w -= lr / correction1 * m / (array_module(m).sqrt(v / correction2) + eps)
