"""What all optimizers share: which parameters they train, and where their state lies. The page trains all."""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from numbers import Real
from typing import Any

from tinygrad_lm.backend import Array, array_module, device_of, to_device
from tinygrad_lm.errors import ConfigError


def is_number(x, end=inf):
    """Whether x is one number from 0 to below `end`."""
    return isinstance(x, Real) and 0 <= x < end


class Optimizer:
    """parameters: some of one initialised module, as `model.parameters()`; frozen ones are left out."""

    # What a kind of optimizer defines:
    numbers: Callable[[float], list]  # those of the next update, for a factor of the learning rate
    apply: Callable[[list], None]  # the update with these numbers
    pieces: list[tuple[slice, Any]]  # what it updates: slices of the flat arrays, each with what it is of
    kept: tuple[str, ...]  # the names of what a resumed run needs
    whole = False  # whether a piece can only be updated as a whole

    def __init__(self, parameters: Iterable[Any]):
        name = type(self).__name__
        if isinstance(parameters, (str, dict)) or not hasattr(parameters, "__iter__"):
            raise ConfigError(f"{name}: expected parameters, found a {type(parameters).__name__}; model.parameters()")
        given = list({id(p): p for p in parameters}.values())
        if wrong := [p for p in given if not hasattr(p, "store") or p.flat is None]:  # arrays have .flat, too
            raise ConfigError(
                f"{name}: {len(wrong)} of {len(given)} parameters belong to no initialised module that still exists:\n"
                f"  {wrong[0]!r:.80}\n  hint : {name}(model.parameters()), after model.initialize(seed=0); "
                "without a module, w.data -= lr * w.grad"
            )
        self.parameters = [p for p in given if p.requires_grad]
        if not self.parameters:
            why = f"all {len(given)} parameters are frozen" if given else "no parameters were given"
            raise ConfigError(f"{name}: {why}, so there is nothing to train")
        if len({id(p.flat) for p in self.parameters}) > 1:
            raise ConfigError(f"{name}: the parameters are of several models; make an optimizer for each")

    flat = property(lambda self: self.parameters[0].flat, doc="The store that the parameters lie in (nn/flat.py).")

    def moments(self) -> Array:
        """A new flat array of zeros with an entry for each entry of the pieces."""
        size, data = sum(here.stop - here.start for here, _ in self.pieces), self.flat.data
        return array_module(data).zeros(size, data.dtype)

    def runs(self, *moments: Array) -> Iterator[tuple]:
        """(weights, gradients, ..., known) of each piece. The moments' lie one behind the other."""
        start = 0
        for here, known in self.pieces:
            there = slice(start, start := start + here.stop - here.start)
            yield self.flat.data[here], self.flat.grad[here], *(m[there] for m in moments), known

    def step(self, factor: float = 1.0) -> None:
        """One update with learning rate lr · factor."""
        if self.flat is not None:
            self.flat.check()
        if any(p.flat is None or p.flat is not self.flat or not p.requires_grad for p in self.parameters):
            raise ConfigError(
                f"{type(self).__name__}: some of its parameters were frozen, exchanged or moved since it was made\n"
                "  hint : make a new optimizer of the model's parameters as they are now"
            )
        self.apply(self.numbers(factor))

    def state(self) -> dict[str, Array]:
        """What a resumed run needs: arrays by name."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state(self, state: dict[str, Array]) -> None:
        """Continue from what `state` returned."""
        for name, x in self.state().items():
            x[...] = to_device(state[name], device_of(x))

    def zero_grad(self) -> None:
        """Set all gradients of the model to zero."""
        self.flat.zero_grad()
