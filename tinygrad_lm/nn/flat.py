"""The store of a model's parameters: one flat array of weights, and one of gradients.

So an optimizer's update is a few operations on long arrays instead of many on short ones, the gradient norm one
reduction, and a checkpoint one write. The page keeps a dict of tensors.
"""

import weakref

from tinygrad_lm.backend import Array, to_device, zeros
from tinygrad_lm.errors import CheckpointError, ConfigError


class FlatParameters(dict):
    """The parameters of a module by name, slices of the flat array `data`; their gradients are slices of `grad`.

    Matrices come first, then vectors, for optimizers treat them differently; frozen parameters, which have no gradient,
    come last, so that weights and gradients have the same places.

    slices   {name: where it lies}
    trained  the names of those that have gradients
    """

    def __init__(self, module, dtype, device):
        named = module.named_parameters()
        super().__init__(sorted(named, key=lambda item: (not item[1].requires_grad, item[1].ndim < 2)))
        self.module = weakref.ref(module)  # it holds this store: with a strong one they would outlive their last use
        self.device = device
        self.trained = [name for name, p in self.items() if p.requires_grad]
        self.data = zeros(sum(p.size for p in self.values()), dtype, self.device)
        # Zeros that are never written to take no memory: a model that only predicts has no gradients.
        self.grad = zeros(sum(self[name].size for name in self.trained), dtype, self.device)
        self.slices, start = {}, 0
        for name, p in self.items():
            here = self.slices[name] = slice(start, start := start + p.size)
            p.store = None
            p.data = self.data[here].reshape(p.shape)
            p.store = weakref.ref(self)
            if p.requires_grad:
                p.node.name, p.node.dtype = name, self.data.dtype
                p.node.grad = self.grad[here].reshape(p.shape)

    def check(self) -> None:
        """Raise ConfigError if the module's parameters are no longer those that were laid out."""
        if (module := self.module()) is None:
            return
        now = dict(module.named_parameters())
        changed = [name for name in {**self, **now} if now.get(name) is not self.get(name)]
        changed += [name for name, p in self.items() if p.flat is not self and name not in changed]
        if changed:
            raise ConfigError(
                f"parameters were added, exchanged or removed after the model was initialised: {', '.join(changed)}\n"
                "  rule : what is trained and saved lies in one array, made by initialize\n"
                "  hint : model.lay_out() makes it again with the values as they are; then make new optimizers"
            )

    def arrays(self) -> dict[str, Array]:
        """{name: its weights}, as NumPy arrays; on a CPU they are views, which training changes."""
        self.check()
        return {name: to_device(p.data, "cpu") for name, p in self.items()}

    def load(self, arrays: dict[str, Array]) -> None:
        """Copy arrays into the parameters of the same names.

        Raises CheckpointError with all that does not fit; nothing is copied then.
        """
        self.check()
        problems = [f"{name} is missing" for name in self if name not in arrays]
        problems += [f"{name} is not a parameter of this model" for name in arrays if name not in self]
        misfits = [name for name, p in self.items() if name in arrays and arrays[name].shape != p.shape]
        problems += [f"{name} has shape {arrays[name].shape}, expected {self[name].shape}" for name in misfits]
        if problems:
            raise CheckpointError("weights do not fit the model:\n  " + "\n  ".join(problems))
        for name, p in self.items():
            p.data[...] = to_device(arrays[name].astype(p.dtype, copy=False), self.device)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.grad[...] = 0

    def runs(self, slices):
        """What some slices of the flat arrays make up, as few slices, as long as can be."""
        runs = []
        for here in sorted(slices, key=lambda here: here.start):
            if runs and runs[-1].stop == here.start:
                runs[-1] = slice(runs[-1].start, here.stop)
            else:
                runs.append(here)
        return runs
