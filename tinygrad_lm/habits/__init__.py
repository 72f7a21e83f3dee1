"""How what people know from PyTorch, NumPy and JAX is written here, for messages; docs/coming-from.md is the page.

Importing the package puts it there. Nothing in here computes: it answers for names and functions that are not here.
"""

import inspect
import sys

from tinygrad_lm import nn, ops, optim
from tinygrad_lm.engine.tensor import Tensor, spelled, spellings
from tinygrad_lm.habits.networks import OF_A_MODULE, OF_AN_OPTIMIZER, OPTIMIZERS, PARTS
from tinygrad_lm.habits.tensors import FUNCTIONS, KEYWORDS, METHODS
from tinygrad_lm.optim.optimizer import Optimizer


def answer(owner, known):
    """Let a package, or the instances of a class, say of a name that they lack how it is written here."""

    def __getattr__(*asked):
        *instance, name = asked
        title = (type(*instance) if instance else owner).__name__
        hint = f"\n  hint : {name} is written {known[name]}" if name in known else ""
        raise AttributeError(f"{title} has no {name}{hint}", name=name, obj=(*instance, owner)[0])

    owner.__getattr__ = __getattr__


def foreign_function(cls, function, types, arguments=(), options=None):
    """What PyTorch asks where one of its functions is given our tensor; its own answer is "must be Tensor, not Tensor".

    It raises a TypeError: then `theirs * ours` comes to our operator.
    """
    name = function.__name__
    said = [key for key, value in (options or {}).items() if value and value != "mean"]
    own = f"\n  hint : ops.{name}{inspect.signature(ops.__dict__[name].rule)}" if name in ops.__all__ else ""
    here = "" if name in spellings else own
    raise TypeError(f"torch.{name}: found a tensor of tinygrad_lm{here}{spelled(name, *said)}")


def assignment(x, index, value):
    """x[i] = value."""
    raise TypeError(
        f"a tensor {x.describe()} does not change by assignment\n"
        "  hint : ops.where(condition, value, x) makes a result; x.data[i] = value changes a leaf's values in place"
    )


spellings |= FUNCTIONS | METHODS | KEYWORDS
for name, method in {"__torch_function__": classmethod(foreign_function), "__setitem__": assignment}.items():
    setattr(Tensor, name, method)  # unseen by type checkers, which are to mark x[0] = 1
answer(sys.modules["tinygrad_lm"], spellings)
answer(ops, spellings)
answer(nn, PARTS)
answer(optim, OPTIMIZERS)
answer(nn.Module, OF_A_MODULE)
answer(Optimizer, OF_AN_OPTIMIZER)
