"""Mistakes in the engine itself, that the graph checks of test_mutants.py must notice: what to replace, and by what."""

import numpy as np

from tinygrad_lm.engine import graph
from tinygrad_lm.engine.graph import Node


def assigned_not_added(self, dx):
    """`=` where `+=` belongs: of a value's uses only the last counts."""
    self.grad = np.array(dx)


def added_in_place(self, dx):
    """`+=` everywhere: whoever else holds the first array sees it change."""
    if self.grad is None:
        self.grad = dx
    else:
        self.grad += dx


def not_summed(dx, shape):
    """No unbroadcast: a bias gets one gradient for each row that it was added to."""
    return dx


def averaged_not_summed(dx, shape):
    """The mean over the copies, where each copy counts."""
    return right_unbroadcast(dx, shape) * (np.prod(shape, dtype=int) / max(dx.size, 1))


def oldest_first(root):
    """The wrong way round: values hand on their gradient before it has arrived."""
    return right_ancestors(root)[::-1]


def in_order_of_discovery(root):
    """Depth first, a value as soon as it is found: its other uses may come later."""
    seen, stack = [], [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.append(node)
            stack.extend(p for p in node.parents if p is not None)
    return seen


right_unbroadcast, right_ancestors = graph.unbroadcast, graph.ancestors
ENGINES = {
    "gradients assigned, not added": (Node, "accumulate", assigned_not_added),
    "gradients added in place": (Node, "accumulate", added_in_place),
    "no unbroadcast": (graph, "unbroadcast", not_summed),
    "unbroadcast by averaging": (graph, "unbroadcast", averaged_not_summed),
    "walked oldest first": (graph, "ancestors", oldest_first),
    "walked in order of discovery": (graph, "ancestors", in_order_of_discovery),
}
