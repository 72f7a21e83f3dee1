"""Modules, and the flat array that all their parameters live in."""

import copy
import math
from typing import ClassVar

import numpy as np

from tinygrad_lm.backend import array_module, blocks, device_of, dtype_of, parallel, random, to_device, wide, zeros
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import CheckpointError


class Parameter(Tensor):
    """A leaf tensor of a module: zeros until `Module.initialize` fills it with mean + std · N(0, 1)."""

    __slots__ = ("mean", "std")

    def __init__(self, *shape, std=0.0, mean=0.0):
        super().__init__(np.zeros(shape, np.float32), requires_grad=True)
        self.std, self.mean = std, mean

    def zero_grad(self):
        """Set the gradient to zero, where it is: in the flat array that the optimizers read."""
        if self.grad is not None:
            self.grad[...] = 0


class Module:
    """A part of a network: parameters and modules are its attributes, and `__call__` computes.

    Parameters are named by the way to them, such as "h.0.attn.c_q.weight".
    """

    name = ""

    def named_modules(self, prefix=""):
        """(name, module) for this module and all below it, in the order they were assigned."""
        yield prefix, self
        for key, value in vars(self).items():
            for i, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(part, Module):
                    path = key if i is None else f"{key}.{i}"
                    yield from part.named_modules(f"{prefix}.{path}" if prefix else path)

    def named_parameters(self):
        """(name, Parameter) for all of them."""
        for prefix, module in self.named_modules():
            for key, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield f"{prefix}.{key}" if prefix else key, value

    def initialize(self, seed=0, dtype=np.float32, device="cpu", frozen=lambda name: False):
        """Give every parameter its place in one flat array, `self.parameters`, and its first value.

        The value depends on the seed and the parameter's name alone: the same in any order, on any device. Seed None
        leaves zeros, for weights that will be loaded. dtype: also by name, "bfloat16" for one. frozen: of which names
        no gradient is wanted.
        """
        for name, module in self.named_modules():
            module.name = name
        named = dict(self.named_parameters())
        for name, p in named.items():
            if frozen(name):
                p.node = None
        self.parameters = Parameters(named, zeros(sum(p.size for p in named.values()), dtype_of(dtype), device))
        masters = self.parameters.masters()
        for name, p in self.parameters.items() if seed is not None else ():
            values = np.full(p.shape, p.mean)
            if p.std:
                values += p.std * random(seed, f"init/{name}").standard_normal(p.shape)
            masters[name][...] = to_device(values.astype(masters[name].dtype), device)
        self.parameters.round()
        return self

    def replica(self):
        """A module with the same weights (the same memory) and gradients of its own: for a thread of its own."""
        arrays = [array for p in self.parameters.values() for array in (p.data, p.grad)]
        twin = copy.deepcopy(self, {id(self.parameters): {}} | {id(array): array for array in arrays})  # but not these
        twin.parameters = Parameters(dict(twin.named_parameters()), self.parameters.data, self.parameters.master)
        return twin


class Parameters(dict):
    """Parameters by name, all of them slices of one flat array `data`, their gradients of another, `grad`.

    So the optimizer's update is a few operations on long arrays instead of many on short ones, the gradient norm one
    reduction, and a checkpoint one write. Matrices come first, then vectors, for they are treated differently; frozen
    ones, which have no gradient, come last, so that weights and gradients have the same places.

    master   what is trained, saved and loaded: in float32 where `data` is of half precision, whose eight or eleven bits
             would swallow most updates (Micikevicius et al. 2018, "Mixed precision training", section 3.1); `round`
             copies it to `data`, which the model computes with, over whatever was written there. Otherwise `data`
             itself
    grad     of master's dtype
    kernels  faster ways to Σ g² of a flat array, by device
    """

    kernels: ClassVar = {}

    def __init__(self, named, data, master=None):
        super().__init__(sorted(named.items(), key=lambda item: (not item[1].requires_grad, item[1].ndim < 2)))
        self.trained = [name for name, p in self.items() if p.requires_grad]
        self.data, self.device = data, device_of(data)
        half = data.dtype != wide(data.dtype)
        self.master = master if master is not None else zeros(data.size, np.float32, self.device) if half else data
        # Zeros that are never written to take no memory: a model that only predicts has no gradients.
        self.grad = zeros(sum(self[name].size for name in self.trained), self.master.dtype, self.device)
        self.blocks = blocks(0, self.grad.size, self.device)
        self.slices, start = {}, 0
        for name, p in self.items():
            self.slices[name] = here = slice(start, start + p.size)
            p.data = self.data[here].reshape(p.shape)
            if p.requires_grad:
                p.node.name = name
                p.node.grad = self.grad[here].reshape(p.shape)
            start = here.stop

    def load(self, arrays):
        """Copy arrays into the parameters of the same names. CheckpointError tells all that does not fit; nothing is
        copied then."""
        problems = [f"{name} is missing" for name in self if name not in arrays]
        problems += [f"{name} is not a parameter of this model" for name in arrays if name not in self]
        problems += [
            f"{name} has shape {arrays[name].shape}, expected {p.shape}"
            for name, p in self.items()
            if name in arrays and arrays[name].shape != p.shape
        ]
        if problems:
            raise CheckpointError("weights do not fit the model:\n  " + "\n  ".join(problems))
        for name, master in self.masters().items():
            master[...] = to_device(arrays[name].astype(master.dtype, copy=False), self.device)
        self.round()

    def masters(self):
        """{name: its part of `master`, in its shape}"""
        return {name: self.master[self.slices[name]].reshape(p.shape) for name, p in self.items()}

    def round(self):
        """Bring `data` up to what `master` has become."""
        if self.data is not self.master:
            self.data[...] = self.master

    def zero_grad(self):
        """Set all gradients to zero."""

        def clear(block):
            self.grad[block] = 0

        parallel(clear, self.blocks)

    def collect(self, other):
        """Add the gradients of other Parameters to these, and set those to zero."""

        def move(block):
            self.grad[block] += other.grad[block]
            other.grad[block] = 0

        parallel(move, self.blocks)

    def runs(self, names):
        """The named parameters as slices of the flat array, as few and as long as can be."""
        runs = []
        for name in self:
            if name in names:
                here = self.slices[name]
                if runs and runs[-1].stop == here.start:
                    runs[-1] = slice(runs[-1].start, here.stop)
                else:
                    runs.append(here)
        return runs

    def norm(self):
        """√Σ g² over all gradient entries: a Python float, or on a GPU an array of no axes, without waiting for it."""
        xp = array_module(self.grad)
        if self.device != "cpu":
            squares = self.kernels.get(self.device, lambda g: (g * g).sum())
            return xp.sqrt(squares(self.grad))
        squares = parallel(lambda block: float(xp.vdot(self.grad[block], self.grad[block]).real), self.blocks)
        return math.sqrt(sum(squares))
