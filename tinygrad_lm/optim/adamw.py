"""AdamW: gradient descent with each parameter's step scaled by the size of its recent gradients."""

from typing import ClassVar

import numpy as np

from tinygrad_lm.backend import array_module, blocks, device_of, parallel, to_device


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    m ← β₁ m + (1 − β₁) g            mean of recent gradients
    v ← β₂ v + (1 − β₂) g²           and of their squares
    w ← w − η λ w − η m̂ / (√v̂ + ε)   with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)

    m and v start at 0 and are too small by the factor 1 − βᵗ at first; the divisions undo that. Matrices decay, vectors
    (biases and gains) don't.

    parameters  nn.module.Parameters; names: which of them to train, all by default
    lr          η, the largest learning rate; `step(factor)` scales it
    kernels     faster stand-ins for `update`, by device
    """

    kernels: ClassVar = {}

    def __init__(self, parameters, names=None, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1):
        names = parameters.trained if names is None else names
        matrices = {name for name in names if parameters[name].ndim >= 2}
        runs = [(run, weight_decay) for run in parameters.runs(matrices)]
        runs += [(run, 0.0) for run in parameters.runs(set(names) - matrices)]
        self.parameters, self.lr, self.betas, self.eps, self.t = parameters, lr, betas, eps, 0
        size = sum(run.stop - run.start for run, _ in runs)
        xp, w, g = array_module(parameters.master), parameters.master, parameters.grad
        self.m, self.v = xp.zeros(size, w.dtype), xp.zeros(size, w.dtype)
        self.blocks, start = [], 0
        for run, decay in runs:
            for block in blocks(run.start, run.stop, parameters.device):
                here = slice(start, start + block.stop - block.start)
                self.blocks.append((w[block], g[block], self.m[here], self.v[here], decay))
                start = here.stop

    def step(self, factor=1.0):
        """One update with learning rate lr · factor."""
        self.apply(self.numbers(factor))
        self.parameters.round()

    def numbers(self, factor):
        """What the next update has of its own, which is counted: the learning rate, and 1 − βᵗ for both β."""
        self.t += 1
        return [self.lr * factor, *(1 - beta**self.t for beta in self.betas)]

    def apply(self, numbers):
        """The update of the masters with these numbers. On a GPU they may be an array there, which a captured step
        reads anew."""
        function, (lr, *corrections) = self.kernels.get(device_of(self.m), update), numbers

        def update_block(block):
            w, g, m, v, decay = block
            function(w, g, m, v, lr, *self.betas, *corrections, self.eps, decay)

        parallel(update_block, self.blocks)

    def state(self):
        """What a resumed run needs: arrays by name."""
        return {"m": self.m, "v": self.v, "t": np.array(self.t)}

    def load_state(self, state):
        """Continue from what `state` returned."""
        self.m[...] = to_device(state["m"], device_of(self.m))
        self.v[...] = to_device(state["v"], device_of(self.v))
        self.t = int(state["t"])


def update(w, g, m, v, lr, beta1, beta2, correction1, correction2, eps, decay):
    """The four lines above, in place, on flat arrays of one size. correction: 1 − βᵗ."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    if decay:
        w *= 1 - lr * decay
    w -= lr / correction1 * m / (array_module(m).sqrt(v / correction2) + eps)
