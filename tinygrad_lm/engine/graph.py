"""The recorded graph, and the walk back through it: all of reverse-mode differentiation.

Every operation on tensors leaves a Node behind: who its parents were, and a function `backward` that turns the
gradient of its result, dy = ∂L/∂y, into the gradients of its inputs, dx = dy ∂y/∂x. Walking the nodes from the loss
back to the leaves and adding up what arrives at each is the chain rule (Linnainmaa 1970; Rumelhart et al. 1986).

What this adds to examples/minimal.py: the values are not kept, only what the gradients need; gradients that are not
wanted are not computed; and what one step needed is freed as soon as the walk has passed it.
"""

import operator
from itertools import count

from tinygrad_lm.backend import array_module, wide
from tinygrad_lm.engine.observe import observers
from tinygrad_lm.engine.replaceable import replaceable
from tinygrad_lm.errors import GraphError, ShapeError


class Node:
    """One recorded operation, or a leaf: a tensor whose gradient is wanted (then op is None).

    order     creation number; a node is younger than all its parents
    op        the operation that made it
    parents   the nodes of its inputs, None for an input that needs no gradient
    backward  dy -> one gradient per input
    shape, dtype: of its value. The value itself is not kept: what backward mentions is exactly what stays alive
    grad      ∂L/∂(its value), summed over the uses seen so far; lasting at a leaf, passing elsewhere
    name      of a parameter, for messages
    """

    __slots__ = ("__weakref__", "backward", "dtype", "grad", "name", "op", "order", "parents", "shape")
    created = count().__next__

    def __init__(self, op, parents, backward, y, name=""):
        self.order, self.grad, self.shape, self.dtype = Node.created(), None, y.shape, y.dtype
        self.op, self.parents, self.backward, self.name = op, parents, backward, name

    def accumulate(self, dx):
        """Add dx to this node's gradient: a value used twice gets two contributions, and the chain rule adds them."""
        if self.grad is not None:
            # A leaf owns its gradient, so it adds in place. That is how a slice of one flat array can lie under it.
            # Elsewhere never in place: another node may hold dx too, for a rule may return dy itself, even twice.
            self.grad = add(self.grad, dx, self.grad if self.op is None else None)
        else:
            self.grad = array_module(dx).array(dx) if self.op is None else dx

    def __repr__(self):
        return f"Node({self.name or (self.op.name if self.op else 'leaf')}, shape={self.shape})"


@replaceable
def add(a, dx, out=None):
    """The sum of two gradients of one value, written to `out` if that is given."""
    return dx.plus(a, out) if callable(dx) else array_module(a).add(a, dx, out=out)


def backpropagate(root, dy):
    """Add ∂(dy · root)/∂leaf to the gradient of every leaf that root was computed from, and free the graph.

    root: Node; dy: an array of root's shape, the gradient to start with.
    """
    nodes = ancestors(root)
    for observer in observers:
        observer.begin(nodes)
    root.accumulate(dy)
    for node in nodes:
        if node.op is None:
            continue
        dy, node.grad = node.grad, None
        if dy is not None:  # None: no gradient arrived, all its uses were without one
            try:
                dxs = [arriving(dx, parent) for parent, dx in zip(node.parents, node.backward(dy), strict=True)]
            except Exception as error:
                error.add_note(f"in the gradient function of {node.op.name}")
                raise
            for observer in observers:
                observer.step(node, dy, dxs)
            for parent, dx in zip(node.parents, dxs, strict=True):
                if dx is not None:
                    parent.accumulate(dx)
        node.backward, node.parents = None, ()  # what only this step needed is freed here, not at the end
    for observer in observers:
        observer.end(nodes)


def arriving(dx, parent):
    """A parent's gradient, None if unwanted: an array of its shape and dtype, or what will add itself to the others."""
    if parent is None or dx is None or (hasattr(dx, "plus") and parent.grad is not None and not observers):
        return parent and dx
    return unbroadcast(dx() if callable(dx) else dx, parent.shape).astype(parent.dtype, copy=False)


def ancestors(root):
    """All nodes that root was computed from, root included, youngest first.

    A node is made after its parents. So sorted by creation number the nodes are in topological order: when a node's
    turn comes, all its uses have had theirs and its gradient is complete. No recursion, so no chain is too long.
    """
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.op is not None and node.backward is None:
            raise GraphError(
                f"backward: the graph behind this result (at {node.op.name}) was already walked and freed\n"
                "  rule : one backward a graph; its saved arrays are released on the way\n"
                "  hint : compute the result again, or add losses up and call backward once on the sum"
            )
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=operator.attrgetter("order"), reverse=True)


def unbroadcast(dx, shape):
    """Sum dx over the axes along which broadcasting had copied an array of this shape: copying's derivative is adding.

    Only absent axes and axes of size 1 can have been copied; any other difference is a ShapeError.
    """
    if dx.shape == shape:
        return dx
    absent = dx.ndim - len(shape)
    copied = tuple(axis for axis in range(dx.ndim) if axis < absent or shape[axis - absent] == 1)
    summed = dx.sum(copied, wide(dx.dtype), keepdims=True)
    if absent < 0 or summed.shape[absent:] != shape:
        raise ShapeError(f"backward: a gradient of shape {dx.shape} arrived at a value of shape {shape}")
    return summed.reshape(shape).astype(dx.dtype, copy=False)
