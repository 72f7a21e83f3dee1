"""Walk: watches a backward pass through the engine's `visit`, and writes every step down."""

import inspect
from contextlib import contextmanager

import numpy as np

from tinygrad_lm.backend import array_module, to_device
from tinygrad_lm.engine.graph import ancestors, unbroadcast
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.learn.ledger.ledger import Input, Leaf, Ledger, Step
from tinygrad_lm.learn.ledger.calls import short
from tinygrad_lm.learn.ledger.snapshot import snapshot
from tinygrad_lm.learn.saved import Held, saved

ENTRYWISE = {"tinygrad_lm.ops.elementwise", "tinygrad_lm.ops.activation"}


class Walk:
    """Watches `Tensor.backward`: the one that trace calls, and those that a checkpoint calls on the way."""

    def __init__(self, recorder, names, keep, local):
        self.recorder, self.keep, self.local = recorder, keep, local
        self.names = names  # by creation number, before all other names
        self.held = Held(recorder.leaves.values())
        self.steps, self.leaves, self.depths = [], {}, {}
        self.waiting = []  # for each backward that is under way, the nodes to come, youngest last
        self.inner = []  # steps and leaves of a backward that has ended within the rule that is now under way

    @contextmanager
    def on(self):
        """Within the block every backward is watched."""
        plain = Tensor.backward

        def watched(tensor, seed=None, visit=None):
            nodes = ancestors(tensor.node) if tensor.node is not None else []
            begun, others = len(self.steps), self.inner
            found = self.enter(nodes)
            plain(tensor, seed, self.visit)
            self.leave(nodes)
            self.inner = [*others, *self.steps[begun:], *found] if self.waiting else []

        Tensor.backward = watched
        try:
            yield self
        finally:
            Tensor.backward = plain

    def enter(self, nodes):
        """A backward begins that will pass these nodes. Returns the leaves that were made for it, in a checkpoint."""
        found, self.inner = [], []
        if not self.waiting and nodes:
            self.root = nodes[0].order
        for node in nodes:
            if node.op is not None:
                self.held.add(node)
            elif node.order not in self.leaves:
                value = self.recorder.values.get(node.order)
                found.append(Leaf(node.order, self.name(node), node.shape, value, self.snap(node.grad)))
        self.leaves |= {leaf.number: leaf for leaf in found}
        self.depths |= {node.order: 0 for node in nodes[:1]}
        self.waiting.append([node for node in reversed(nodes) if node.op is not None])
        return [leaf for leaf in found if leaf.number > self.root]

    def leave(self, nodes):
        """A backward has ended."""
        self.pass_over(self.waiting.pop())
        for node in nodes:
            if node.op is None:
                self.leaves[node.order].grad = self.snap(node.grad)

    def pass_over(self, nodes):
        """No gradient arrived at these, so nobody visits them; but they are freed after the step before."""
        for node in nodes:
            self.held.drop(node)
            self.steps[-1].held_after = self.held.bytes

    def visit(self, node, dy, dxs):
        """What `backpropagate` calls: write the step down."""
        inner, self.inner = self.inner, []
        self.pass_over(iter(self.waiting[-1].pop, node))
        depth = self.depths[node.order]
        note = self.recorder.notes.get(node.order)
        arrays, rest = saved(node)
        before = self.held.bytes
        self.held.drop(node)
        forward, _, backward = node.op.formula.partition("        ")
        step = Step(
            number=node.order,
            op=node.op.name,
            forward=forward,
            backward=backward.strip(),
            name=self.name(node),
            module=note.module if note else "",
            shape=node.shape,
            dtype=str(dy.dtype),
            source=note.callers[0] if note and note.callers else None,
            callers=note.callers if note else (),
            options=note.options if note else {},
            saved={name: self.snap(x) for name, x in arrays.items()},
            constants={name: short(x) for name, x in rest.items()},
            value=note.value if note else None,
            incoming=self.snap(dy),
            inputs=self.inputs(node, dy, dxs, note, bool(inner)),
            held_before=before,
            held_after=self.held.bytes,
            depth=depth,
        )
        for one in inner:
            one.inside = one.inside or step.number
            if isinstance(one, Step):
                one.depth += depth
        self.steps.append(step)

    def inputs(self, node, dy, dxs, note, nested):
        """The step's Inputs. nested: its rule has run a backward of its own, which must not be done twice."""
        sums, inputs = {}, []
        names = input_names(node.op, len(node.parents))
        local = {} if nested else local_derivatives(node, dy, dxs, self.local)
        for i, (name, parent, dx) in enumerate(zip(names, node.parents, dxs, strict=True)):
            value = note.inputs[i] if note else None
            shape = parent.shape if parent is not None else value.shape if value else None
            input = Input(name, None if parent is None else parent.order, shape, value)
            inputs.append(input)
            if parent is not None:
                depth = self.depths[node.order] + 1
                self.depths[parent.order] = min(depth, self.depths.get(parent.order, depth))
            if parent is not None and dx is not None:
                before = sums.get(parent, parent.grad)
                sums[parent] = dx if before is None else before + dx  # as Node.accumulate will add
                input.contribution, input.before, input.after = map(self.snap, (dx, before, sums[parent]))
                input.local = local.get(i)
        return inputs

    def name(self, node):
        """What the caller of `trace` calls it, or the model, or the code."""
        name = self.names.get(node.order) or node.name or self.recorder.names.get(node.order)
        return name or ("loss" if node.order == self.root and node.op else "")

    def snap(self, x):
        return snapshot(x, self.keep)

    def ledger(self, root):
        """All that was seen, with numbers from 1 in place of the engine's."""
        orders = sorted([*(step.number for step in self.steps), *self.leaves])
        numbers = {order: i for i, order in enumerate(orders, start=1)}
        for one in (*self.steps, *self.leaves.values()):
            one.number, one.inside = numbers[one.number], numbers.get(one.inside)
            for input in one.inputs if isinstance(one, Step) else ():
                input.number = numbers.get(input.number)
        leaves = sorted(self.leaves.values(), key=lambda leaf: leaf.number)
        return Ledger(self.steps, leaves, numbers[root], len(self.steps))


def input_names(op, n):
    """The names of the rule's first n inputs; those of *xs are xs[0], xs[1], …"""
    names = []
    for p in inspect.signature(op.rule).parameters.values():
        names += [f"{p.name}[{i}]" for i in range(n)] if p.kind is p.VAR_POSITIONAL else [p.name]
    return names[:n]


def local_derivatives(node, dy, dxs, limit):
    """{input: ∂y/∂input} where that has at most `limit` entries: row k is the backward of dy = 1 at k, 0 elsewhere.

    An entry of y that is made of one entry of each input has nothing to do with the others, even where a rule would
    multiply the 0 there by an infinite slope, as that of log at 0.
    """
    entrywise = node.op.rule.__module__ in ENTRYWISE
    small = [i for i, dx in enumerate(dxs) if dx is not None and 0 < dy.size * dx.size <= limit]
    rows = {i: [] for i in small}
    for k in range(dy.size if small else 0):
        unit = array_module(dy).zeros(dy.shape, dy.dtype)
        unit.reshape(-1)[k] = 1
        with np.errstate(all="ignore"):
            found = node.backward(unit)
            found = {i: found[i]() if callable(found[i]) else found[i] for i in small}
        for i, dx in found.items():
            dx = to_device(dx, "cpu")
            dx = np.where(np.arange(dy.size).reshape(dy.shape) == k, dx, 0) if entrywise else dx
            rows[i].append(unbroadcast(dx, node.parents[i].shape))
    return {i: np.stack(rows[i]).reshape((*dy.shape, *node.parents[i].shape)) for i in small}
