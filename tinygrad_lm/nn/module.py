"""Modules: the parts of a network, which hold parameters and compute.

What this adds to examples/minimal.py: there the weights are a dict; here they are attributes of the parts that use
them, and all of them lie in one flat array (flat.py).
"""

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy as np

from tinygrad_lm.backend import DTypeLike, dtype_of, random, to_device
from tinygrad_lm.engine.observe import thread
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, ShapeError
from tinygrad_lm.nn.flat import FlatParameters


class Parameter(Tensor):
    """A leaf tensor of a module, which `Module.initialize` fills with mean + std · N(0, 1).

    Once it has a place in the module's flat array, `p.data = array` copies into that.
    """

    __slots__ = ("initial", "store")

    def __init__(self, *shape: int, std: float = 0.0, mean: float = 0.0):
        super().__init__(np.zeros(shape, np.float32), requires_grad=True)
        self.initial, self.store = (mean, std), None

    flat = property(lambda self: self.store and self.store(), doc="The FlatParameters that it lies in, or None.")

    def __setattr__(self, name, value):
        if name == "data" and getattr(self, "store", None) and value is not self.data:
            if value.shape != self.shape:
                raise ShapeError(f"parameter: data has shape {value.shape}, expected {self.shape}")
            self.data[...] = value
        else:
            super().__setattr__(name, value)

    def zero_grad(self) -> None:
        """Set the gradient to zero, where it is: in the flat array that the optimizers read."""
        if self.flat is None:
            super().zero_grad()
        elif self.grad is not None:
            self.grad[...] = 0

    def __reduce__(self):
        rebuilt, arguments = super().__reduce__()
        return rebuilt, arguments, (None, {"store": None, "initial": self.initial})


class Module:
    """A part of a network: parameters and modules are its attributes, and `forward` computes.

        class Layer(nn.Module):
            def __init__(self):
                self.linear = nn.Linear(2, 3)

            def forward(self, x):
                return ops.tanh(self.linear(x))

        layer = Layer().initialize(seed=0)
        y = layer(x)

    Attributes may be lists, tuples and dicts of modules and parameters, nested as deep as one likes. A parameter is
    named by the way to it, such as "h.0.attn.c_q.weight"; one that several modules share counts once, under its first
    name. After `initialize`, `model.flat` is the store of all parameters (flat.py).
    """

    name = ""
    ready = False  # whether initialize has run

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module computes; calling the module runs it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        if not self.ready:
            self.check_ready()
        thread.modules.append(self.name)
        try:
            return self.forward(*inputs, **options)
        finally:
            thread.modules.pop()

    def __repr__(self) -> str:
        """The number of parameters, then each name with its shape: one line for what h.0, h.1, … have in common."""
        starred = [(re.sub(r"\b\d+\b", "*", name), p) for name, p in self.named_parameters()]
        alike = Counter(f"\n  {name:<26} {p.shape}" + " frozen" * (not p.requires_grad) for name, p in starred)
        lines = "".join(line + f" × {n}" * (n > 1) for line, n in alike.items())
        return f"{type(self).__name__}: {sum(p.size for _, p in starred):,} parameters{lines}"

    def check_ready(self) -> None:
        """Raise ConfigError if this module has parameters that were never initialised."""
        names = [name for name, p in self.named_parameters() if p.flat is None]
        if names:
            raise ConfigError(
                f"{type(self).__name__} {self.name}: its parameters {', '.join(names)} have no values yet\n"
                "  hint : initialize(seed=0) on the whole model; or on a part that is new in it, then model.lay_out()"
            )

    def named_modules(self) -> "list[tuple[str, Module]]":
        """(name, module) for this module and all below it, in the order they were assigned."""
        return [(name, part) for name, part in parts(self, "", set()) if isinstance(part, Module)]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """(name, Parameter) for all of them."""
        return [(name, part) for name, part in parts(self, "", set()) if isinstance(part, Parameter)]

    def parameters(self) -> list[Parameter]:
        """All parameters, for an optimizer: `AdamW(model.parameters())`."""
        return [part for _, part in self.named_parameters()]

    def initialize(self, seed: int | None = 0, dtype: DTypeLike = np.float32, device: str = "cpu") -> Self:
        """Give every parameter its first value, and its place in one flat array, `self.flat`. Returns the module.

        The value depends on the seed and the parameter's name alone: the same in any order, on any device. Seed None
        leaves zeros, for weights that will be loaded. dtype: of the weights, also by name.
        """
        for name, module in self.named_modules():
            module.name, module.ready = name, True
        self.flat = FlatParameters(self, dtype_of(dtype), device)
        for name, p in self.flat.items() if seed is not None else ():
            mean, std = p.initial
            values = np.full(p.shape, mean)
            if std:
                values += std * random(seed, f"init/{name}").standard_normal(p.shape)
            p.data = to_device(values.astype(p.dtype), device)
        return self

    def lay_out(self) -> Self:
        """Put the parameters, as they are now, into a new flat array. Returns the module.

        For a model whose parts were exchanged, frozen or copied after it was initialised.
        """
        for _, module in self.named_modules():
            if not module.ready:
                module.check_ready()
        before = {id(p): (p.data, p.grad) for p in self.parameters()}
        self.initialize(None, *next(((p.dtype, p.device) for p in self.parameters()), ()))
        for p in self.flat.values():
            values, gradient = before[id(p)]
            p.data = values
            if gradient is not None and p.requires_grad:
                p.grad[...] = gradient
        return self

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "flat"} | {"laid_out": hasattr(self, "flat")}

    def __setstate__(self, state):
        """A copy gets its own flat array, with the same values and gradients."""
        laid_out = state.pop("laid_out")
        vars(self).update(state)
        if laid_out:
            self.lay_out()


def parts(value, name, seen):
    """(name, part) for each Module, Parameter, list, tuple and dict in a value, at the first name that leads to it."""
    if isinstance(value, FlatParameters) or id(value) in seen:
        return
    seen.add(id(value))
    yield name, value
    if isinstance(value, Parameter):
        return
    children = vars(value) if isinstance(value, Module) else value
    for key, child in children.items() if isinstance(children, dict) else enumerate(children):
        if isinstance(child, (Module, Parameter, list, tuple, dict)):
            yield from parts(child, f"{name}.{key}" if name else str(key), seen)


def freeze(model: Module, *patterns: str) -> Any:
    """Exclude from training the parameters that fit one of the patterns, "wte.*" or "h.[0-5].*". Returns the model.

    Call it before the optimizer is made, and on the whole model, which has the store.
    """
    named = model.named_parameters()
    idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name, _ in named)]
    if idle:
        raise ConfigError(
            f"freeze: no parameter is named {' or '.join(map(repr, idle))}\n"
            f"  names : {', '.join(name for name, _ in named[:4])}, … {named[-1][0]}\n"
            "  hint  : 'wte.*' and 'h.[0-2].*' are patterns"
        )
    for name, p in named:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            p.node = None
    return model.lay_out() if model.ready else model
