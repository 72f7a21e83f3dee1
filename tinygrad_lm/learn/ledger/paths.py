"""paths: the chain rule, written out. Every way from one entry of a leaf to the loss, and the product along each.

The derivative of the loss by that entry is the sum of these products. In any real network there are more ways than one
can count, so gradients are not computed like this: backpropagation adds up what arrives at every node, and so follows
all ways at the cost of one.
"""

import math
from dataclasses import dataclass

import numpy as np

from tinygrad_lm.errors import ConfigError


@dataclass
class Hop:
    """One step of a path: into which Step, by which of its Inputs, to which entry of its value, times what."""

    step: object
    input: object
    entry: tuple
    derivative: float

    def __str__(self):
        by = f" by {self.input.name}" if len(self.step.inputs) > 1 else ""
        return f"#{self.step.number} {self.step.op}{place(self.entry)}{by}"


@dataclass
class Path:
    """Hops from a leaf's entry to the loss, the leaf's end first."""

    leaf: object
    entry: tuple
    hops: list

    @property
    def product(self):
        """The product of the local derivatives along it."""
        return math.prod(hop.derivative for hop in self.hops)

    def __str__(self):
        ends = [f"{self.leaf.label or f'#{self.leaf.number}'}{place(self.entry)}"]
        ends += [str(hop) for hop in self.hops]
        factors = " · ".join(f"{hop.derivative:.6g}" for hop in self.hops) or "1"
        return f"{' → '.join(ends)}\n    {factors} = {self.product:.6g}"


def paths(ledger, name, entry=(), limit=1000):
    """All Paths from this entry of the leaf of this name (or number) to the loss; those with a factor 0 left out.

    Their products add up to the entry's gradient. ConfigError if there are more than `limit`, if a local derivative on
    the way was too large for `trace` to compute, or if the way leads through a recomputation.
    """
    leaf = ledger.leaf(name) if isinstance(name, str) else ledger[name]
    entry = (entry,) if isinstance(entry, int) else tuple(entry)
    if len(entry) != len(leaf.shape) or not all(-n <= i < n for i, n in zip(entry, leaf.shape, strict=True)):
        raise ConfigError(f"paths: {name!r} has shape {leaf.shape}, so {entry} is not an entry of it")
    entry = tuple(i % n for i, n in zip(entry, leaf.shape, strict=True))
    if len(ledger.steps) < ledger.of:
        raise ConfigError(
            "paths: the ledger is only a part of the backward pass\n  hint : pass the whole one, not .where(...)"
        )
    uses = above(ledger, leaf)
    counts = count(ledger, uses)
    total = int(counts[leaf.number][entry]) if leaf.number in counts else 0
    if total > limit:
        raise ConfigError(
            f"paths: {total:,} paths lead from {name}{place(entry)} to the loss, the limit is {limit:,}\n"
            "  hint : take a smaller graph (fewer layers, positions or channels), or limit=..."
        )
    return list(walk(ledger.root, leaf, entry, uses, counts))


def above(ledger, leaf):
    """{number: its uses} for the leaf and every step that it has a part in; a use is a (Step, Input) pair."""
    uses = {leaf.number: []}
    again = {step.inside for step in ledger.steps}
    for step in sorted(ledger.steps, key=lambda step: step.number):
        for input in step.inputs:
            if input.number in uses and input.contribution is not None:
                if step.inside or step.number in again:
                    raise ConfigError(
                        f"paths: the way leads through a recomputation, at #{step.number} {step.op}\n"
                        "  hint : trace without ops.recompute"
                    )
                if input.local is None:
                    count = step.incoming.size * input.contribution.size
                    raise ConfigError(
                        f"paths: #{step.number} {step.op} has no local derivative by {input.name} ({count:,} entries)\n"
                        f"  hint : trace(..., local={count}), or a smaller graph"
                    )
                uses[input.number].append((step, input))
                uses.setdefault(step.number, [])
    return uses


def count(ledger, uses):
    """{number: how many paths lead from each entry of it to the loss}: added up as gradients are."""
    counts = {ledger.root: np.ones((), object)}
    for number in sorted(uses, reverse=True):
        for step, input in uses[number]:
            ways = (input.local.reshape(step.incoming.size, -1) != 0).astype(object)  # Python's integers have no end
            arriving = (counts[step.number].reshape(-1) @ ways).reshape(input.shape)
            counts[number] = np.asarray(counts.get(number, 0) + arriving, object)
    return counts


def walk(root, leaf, entry, uses, counts):
    """The Paths, by depth-first search that enters no entry from which none leads on."""
    waiting = [(leaf.number, entry, [])]
    while waiting:
        number, here, hops = waiting.pop()
        if number == root:
            yield Path(leaf, entry, hops)
            continue
        for step, input in reversed(uses[number]):
            column = input.local[(..., *here)]  # ∂y/∂(this entry), of y's shape
            onward = (column != 0) & (counts[step.number] != 0)
            for to in reversed([to for to in np.ndindex(column.shape) if onward[to]]):
                waiting.append((step.number, to, [*hops, Hop(step, input, to, float(column[to]))]))


def place(entry):
    """'[3, 7]'; nothing for the entry of a number."""
    return str(list(entry)) if entry else ""
