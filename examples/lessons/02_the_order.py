"""Lesson 2: why backpropagation must walk in the right order.

In a diamond two paths lead from the result to one value:

    L = b + c,  b = 3a,  c = 5a,  a = 2x        ∂L/∂x = 2 · (3 + 5)

A walk that passes each gradient on at once reaches `a` along b before c has contributed. Of the four walks below, two
make this mistake, the third avoids it by following every path, and the fourth goes youngest first. Any order works in
which a node comes after all nodes that use it, such as the reversed depth-first postorder of other engines.

    python examples/lessons/02_the_order.py
"""

import numpy as np

from tinygrad_lm import Tensor
from tinygrad_lm.engine.graph import ancestors
from tinygrad_lm.programs import run_lesson


def main(out="."):
    print("One diamond: the gradient of x by each walk, and the number of steps, one for each visit of a node.")
    diamond = {name: gradient_by(walk, tower(1)) for name, walk in WALKS.items()}
    for name, (dx, steps) in diamond.items():
        print(f"  {name:36} ∂L/∂x = {dx:4g}   {'right' if dx == 2 * (3 + 5) else 'WRONG'}   {steps} steps")

    root, _ = tower(1)
    print("\nThe nodes by age, youngest first. Each stands before all of its parents:")
    for node in ancestors(root.node):
        parents = [p.order - root.node.order for p in node.parents if p is not None]
        assert all(age < node.order - root.node.order for age in parents)
        name = node.op.name if node.op else "x"
        print(f"  {node.order - root.node.order:3}  {name:9} parents: {', '.join(map(str, parents)) or 'none, a leaf'}")

    print("\nDiamonds on top of each other: steps of the two right walks.")
    print("  diamonds   every path   youngest first")
    counts = [(n, *(gradient_by(walk, tower(n))[1] for walk in (every_path, youngest_first))) for n in (1, 2, 4, 8, 12)]
    for n, paths, nodes in counts:
        print(f"  {n:8} {paths:12} {nodes:16}")
    print("Every diamond doubles the number of paths; a transformer's layer has several.")
    return {"diamond": diamond, "counts": counts}


def tower(n):
    """x, doubled, and n diamonds on top: a ← 3a + 5a. Returns the result and x."""
    x = Tensor(np.array(1.0), requires_grad=True)
    a = 2 * x
    for _ in range(n):
        b, c = 3 * a, 5 * a
        a = b + c
    return a, x


def gradient_by(walk, graph):
    """The gradient of x that a walk finds, and its number of steps."""
    root, x = graph
    grad, steps = {root.node: 1.0}, []
    walk(root.node, grad, steps)
    return float(grad[x.node]), len(steps)


def contributions(node, dy, steps):
    """One step: the gradients that a node passes to its parents when dy has arrived."""
    steps.append(node)
    dxs = node.backward(dy) if node.op else ()
    return [(parent, dx) for parent, dx in zip(node.parents, dxs, strict=True) if parent is not None]


def first_reached(node, grad, steps):
    """Depth first, each node once. `a` passes on the part that came along b; the part along c comes too late."""
    for parent, dx in contributions(node, grad[node], steps):
        reached = parent in grad
        grad[parent] = grad.get(parent, 0) + dx
        if not reached:
            first_reached(parent, grad, steps)


def whenever_reached(node, grad, steps):
    """Depth first, again at each visit, with all that has arrived: the part that came along b is passed on twice."""
    for parent, dx in contributions(node, grad[node], steps):
        grad[parent] = grad.get(parent, 0) + dx
        whenever_reached(parent, grad, steps)


def every_path(node, grad, steps, dy=1.0):
    """Depth first, again at each visit, with the new part only: a sum over all paths. Right, but count the steps."""
    for parent, dx in contributions(node, dy, steps):
        grad[parent] = grad.get(parent, 0) + dx
        every_path(parent, grad, steps, dx)


def youngest_first(root, grad, steps):
    """Each node once, in the reverse order of creation.

    A value is always made before the values that use it. So when a node's turn comes, all nodes that use it are younger
    and have had their turn: its gradient is complete. `ancestors` collects the nodes that the loss depends on and sorts
    them by creation number, without recursion.
    """
    for node in ancestors(root):  # all nodes below root, sorted by their creation number
        for parent, dx in contributions(node, grad[node], steps):
            grad[parent] = grad.get(parent, 0) + dx


WALKS = {
    "depth first, when first reached": first_reached,
    "depth first, whenever reached": whenever_reached,
    "depth first, every path on its own": every_path,
    "youngest first": youngest_first,
}

if __name__ == "__main__":
    run_lesson(main)
