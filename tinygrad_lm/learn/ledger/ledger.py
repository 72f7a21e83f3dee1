"""What a backward pass did, as plain data. Arrays are Snapshots (snapshot.py), but for `Input.local`.

Numbers are 1, 2, … in order of creation, leaves included: what is older has the smaller number. A step that was
recomputed during the backward pass (ops.recompute) is younger than all of the forward pass.
"""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.ledger.calls import Line
from tinygrad_lm.learn.ledger.ledger_text import heading, ledger_text, reference
from tinygrad_lm.learn.ledger.page import folded
from tinygrad_lm.learn.ledger.snapshot import Snapshot


@dataclass
class Input:
    """One input of a step, and what the step adds to its gradient.

    name          of the input in the rule: "x", "w", "xs[1]"
    number        of the Step or Leaf that it is; None where no gradient is wanted
    value         None if the forward pass was not recorded
    contribution  what is added to its gradient, in its shape; None where there is nothing to add
    before, after the gradient's running sum; before is None if this is the first to arrive
    local         ∂y/∂input, an array of shape (*step.shape, *input's shape); None if it would be too large
    """

    name: str
    number: int | None
    shape: tuple | None
    value: Snapshot | None
    contribution: Snapshot | None = None
    before: Snapshot | None = None
    after: Snapshot | None = None
    local: np.ndarray | None = None

    def __repr__(self):
        return f"Input({self.name}: #{self.number} {self.shape})"


@dataclass
class Step:
    """One operation, when the backward pass came to it.

    forward, backward  the two halves of the rule's formula
    name               what the code calls its value: of a variable, or as `names` says; "" if unknown
    module             the name of the module that called it, such as "h.0.attn.c_q"; "" outside of modules
    source, callers    the line that called the operation; all lines that led to it, innermost first (source is the
                       first of them). None and () if the forward pass was not recorded
    options            {name: text} of the call
    saved, constants   {name: Snapshot} and {name: text}: what its gradient function kept from the forward pass
    value, incoming    y and dy; value is None if the forward pass was not recorded
    held_before/_after how many bytes the recorded graph kept alive before this step and after it (saved.py)
    depth              the fewest steps between it and the loss; 0 is the loss itself
    inside             the number of the recompute step that it is a part of, or None
    """

    number: int
    op: str
    forward: str
    backward: str
    name: str
    module: str
    shape: tuple
    dtype: str
    source: Line | None
    callers: tuple
    options: dict
    saved: dict
    constants: dict
    value: Snapshot | None
    incoming: Snapshot
    inputs: list
    held_before: int
    held_after: int
    depth: int
    inside: int | None = None

    @property
    def label(self):
        """Module and name in one: "h.0.attn:q"."""
        return ":".join(filter(None, (self.module, self.name)))

    def __repr__(self):
        return f"Step({reference(self)}: {self.op} {self.shape} {self.dtype})"


@dataclass
class Leaf:
    """A parameter, or another value whose gradient was wanted. before: its gradient before the pass; grad: after."""

    number: int
    name: str
    shape: tuple
    value: Snapshot | None
    before: Snapshot | None
    grad: Snapshot | None = None
    inside: int | None = None

    @property
    def label(self):
        return self.name

    def __repr__(self):
        return f"Leaf({reference(self)}: {self.shape})"


@dataclass
class Ledger:
    """A backward pass: its steps in the order they were taken, youngest first; its leaves; the number of the loss."""

    steps: list
    leaves: list
    root: int
    of: int  # how many steps the whole pass had

    def __getitem__(self, number):
        """The Step or Leaf of this number."""
        for one in (*self.steps, *self.leaves):
            if one.number == number:
                return one
        raise ConfigError(f"ledger: number {number} is neither one of its steps nor a leaf")

    def leaf(self, name):
        """The Leaf of this name."""
        for leaf in self.leaves:
            if leaf.name == name:
                return leaf
        names = ", ".join(leaf.name or f"#{leaf.number}" for leaf in self.leaves)
        raise ConfigError(f"ledger: no leaf is named {name!r}\n  found : {names}")

    def uses(self, number):
        """The (Step, Input) pairs that add to the gradient of this number, in the order they add."""
        return [
            (step, input)
            for step in self.steps
            for input in step.inputs
            if input.number == number and input.contribution is not None
        ]

    def where(self, name="*", op="*", depth=None):
        """A Ledger of the steps that match everything that is given.

        name   a pattern for the step's label, its module, its number as "#12", or the name of an input: "h.0.*"
        op     a pattern for the operation's name
        depth  at most so many steps away from the loss
        """
        called = {leaf.number: leaf.name for leaf in self.leaves}

        def fits(step):
            names = [
                step.label,
                step.module,
                f"#{step.number}",
                *(called.get(input.number, "") for input in step.inputs),
            ]
            return (
                any(fnmatchcase(each, name) for each in names)
                and fnmatchcase(step.op, op)
                and (depth is None or step.depth <= depth)
            )

        return replace(self, steps=[step for step in self.steps if fits(step)])

    def __str__(self):
        return ledger_text(self)

    def __repr__(self):
        return f"Ledger({heading(self)})"

    def _repr_html_(self):
        """What a notebook shows: the page, folded."""
        return folded(self, heading(self))
