"""Recomputation of whole modules: memory for time."""

from tinygrad_lm import ops
from tinygrad_lm.nn.module import Module


def recomputed(*modules: Module) -> None:
    """Let modules keep only their first input, x, for the backward pass, and compute the rest again when it comes.

    Where x needs no gradient, below all that is trained, they run as they are: nothing inside would be recorded.
    """
    for module in modules:
        module.forward = Recomputed(module)


class Recomputed:
    """The forward of a module that is recomputed."""

    def __init__(self, module):
        self.module = module

    def __call__(self, x, *others, **options):
        forward = type(self.module).forward
        if not x.requires_grad:
            return forward(self.module, x, *others, **options)
        return ops.recompute(x, function=lambda x: forward(self.module, x, *others, **options))
