"""trace: watch one backward pass, and keep everything that was seen in a Ledger (ledger.py).

    from tinygrad_lm.learn.ledger.trace import trace

    ledger = trace(lambda x, w: ops.tanh(x @ w).sum(), x, w)           # as gradcheck takes it
    ledger = trace(lambda: ops.cross_entropy(model(tokens), targets))
    ledger = trace(loss)                                               # a graph that is there: without lines and values
    print(ledger.where(op="tanh"))
    ledger.steps[0].inputs[0].contribution.array

The function and then the engine's own `backward` run with two observers, for the calls (calls.py) and for the pass
(backward.py). The gradients are bit for bit those of a plain backward, and they are in `.grad` afterwards.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.observe import observing
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.engine.variable import as_array
from tinygrad_lm.errors import ConfigError, GraphError
from tinygrad_lm.learn.ledger.backward import BackwardObserver
from tinygrad_lm.learn.ledger.calls import CallObserver
from tinygrad_lm.learn.ledger.ledger import Ledger


def trace(
    f: Tensor | Callable[..., Tensor], *inputs: Any, names: dict[str, Tensor] | None = None, keep: int = 4096,
    local: int = 4096,
) -> Ledger:  # fmt: skip
    """Run f(*inputs), which returns a scalar, run backward from it, and return the Ledger of that pass.

    f       a function that returns a tensor of one number, or such a tensor itself, whose graph is still there
    inputs  tensors as they are; floating arrays and numbers become leaves; integers do not, they have no derivative
    names   {name: tensor} for values that should have another name than in the code
    keep    arrays of at most so many entries are kept whole, larger ones as statistics
    local   local derivatives of at most so many entries are computed, by a backward of each unit of dy
    """
    calls = CallObserver(keep)
    loss: Any = f
    if not isinstance(f, Tensor):
        if not callable(f):
            raise ConfigError(f"trace: expected a function or a tensor, found a {type(f).__name__}")
        with observing(calls):
            loss = f(*map(as_leaf, inputs))
        if not isinstance(loss, Tensor):
            raise GraphError(
                f"trace: the function returned a {type(loss).__name__}\n"
                "  rule : it returns the loss, a tensor of one number"
            )
        if loss.node is None and any(np.asarray(x).dtype.kind in "iub" for x in inputs if not isinstance(x, Tensor)):
            raise GraphError(
                "trace: nothing was recorded: integers have no derivative, so they become no leaves\n"
                "  hint : pass floats, 2.0 for 2, or tensors with requires_grad=True"
            )
    elif inputs:
        raise ConfigError("trace: inputs were given, but no function that takes them")
    if not all(isinstance(x, Tensor) for x in (names or {}).values()):
        raise ConfigError("trace: names must be {name: tensor}, not {tensor: name}")
    given = {x.node.order: name for name, x in (names or {}).items() if x.node is not None}
    backward = BackwardObserver(calls, given, keep, local)
    with observing(calls), observing(backward):
        loss.backward()
    return backward.ledger()


def as_leaf(x):
    """Floating arrays and numbers as leaves, anything else as it is."""
    if isinstance(x, Tensor) or not (isinstance(x, (float, list)) or hasattr(x, "dtype")):
        return x
    x = as_array(x)
    return Tensor(x, requires_grad=is_floating(x.dtype))
