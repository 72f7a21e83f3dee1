"""BackwardObserver: watches a backward pass and writes down every step."""

from dataclasses import dataclass, field

import numpy as np

from tinygrad_lm.backend import array_module, to_device
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.observe import Observer
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.learn.ledger.calls import one_line
from tinygrad_lm.learn.ledger.ledger import Input, Leaf, Ledger, Step
from tinygrad_lm.learn.ledger.snapshot import snapshot
from tinygrad_lm.learn.saved import HeldMemory, saved

ENTRYWISE = {"tinygrad_lm.ops.elementwise", "tinygrad_lm.ops.activation"}


@dataclass
class Pass:
    """A backward pass that is under way.

    waiting  the nodes to come, the next one last
    written  its steps so far, and the leaves that were made for it
    inner    what the passes wrote that have ended within the rule that is now at work: ops.recompute runs one
    """

    waiting: list
    written: list
    inner: list = field(default_factory=list)


class BackwardObserver(Observer):
    """Watches the pass that trace starts, and those that begin within it, in a recomputation.

    calls: a CallObserver; names: {creation number: name}, before all other names; keep, local: as trace has them
    """

    def __init__(self, calls, names, keep, local):
        self.calls, self.names, self.keep, self.local = calls, names, keep, local
        self.held = HeldMemory(calls.leaves.values())
        self.steps, self.leaves, self.depths = [], {}, {}
        self.passes = []  # innermost last

    def begin(self, nodes):
        if not self.passes:
            self.root = nodes[0].order
        found = []
        for node in nodes:
            if node.op is not None:
                self.held.add(node)
            elif node.order not in self.leaves:
                value = self.calls.values.get(node.order)
                found.append(Leaf(node.order, self.name(node), node.shape, value, self.snap(node.grad)))
        self.leaves |= {leaf.number: leaf for leaf in found}
        self.depths[nodes[0].order] = 0
        waiting = [node for node in reversed(nodes) if node.op is not None]
        self.passes.append(Pass(waiting, [leaf for leaf in found if leaf.number > self.root]))

    def end(self, nodes):
        ended = self.passes.pop()
        self.skip(ended.waiting)
        for node in nodes:
            if node.op is None:
                self.leaves[node.order].grad = self.snap(node.grad)
        if self.passes:
            self.passes[-1].inner += ended.written

    def skip(self, nodes):
        """No gradient arrived at these nodes, so they have no step; they are freed after the step before."""
        for node in nodes:
            self.held.drop(node)
            self.steps[-1].held_after = self.held.bytes

    def step(self, node, dy, dxs):
        here = self.passes[-1]
        inner, here.inner = here.inner, []
        self.skip(iter(here.waiting.pop, node))
        call = self.calls.calls.get(node.order)
        arrays, rest = saved(node)
        before = self.held.bytes
        self.held.drop(node)
        forward, backward = halves(node.op)
        step = Step(
            number=node.order,
            op=node.op.name,
            forward=forward,
            backward=backward,
            name=self.name(node),
            module=call.module if call else "",
            shape=node.shape,
            dtype=str(dy.dtype),
            source=call.callers[0] if call and call.callers else None,
            callers=call.callers if call else (),
            options=call.options if call else {},
            saved={name: self.snap(x) for name, x in arrays.items()},
            constants={name: one_line(x) for name, x in rest.items()},
            value=call.value if call else None,
            incoming=self.snap(dy),
            inputs=self.inputs(node, dy, dxs, call, bool(inner)),
            held_before=before,
            held_after=self.held.bytes,
            depth=self.depths[node.order],
        )
        for one in inner:
            one.inside = one.inside or step.number
            if isinstance(one, Step):
                one.depth += step.depth
                one.module = one.module or step.module  # the module whose forward was recomputed is no longer running
        self.steps.append(step)
        here.written += [*inner, step]

    def inputs(self, node, dy, dxs, call, nested):
        """The step's Inputs. nested: its rule has run another backward pass, which must not be repeated."""
        sums, inputs = {}, []
        names = node.op.input_names(len(node.parents))
        local = {} if nested else local_derivatives(node, dy, dxs, self.local)
        for i, (name, parent, dx) in enumerate(zip(names, node.parents, dxs, strict=True)):
            value = call.inputs[i] if call else None
            shape = parent.shape if parent is not None else value.shape if value else None
            input = Input(name, None if parent is None else parent.order, shape, value)
            inputs.append(input)
            if parent is None:
                continue
            depth = self.depths[node.order] + 1
            self.depths[parent.order] = min(depth, self.depths.get(parent.order, depth))
            if dx is not None:
                before = sums.get(parent, parent.grad)
                sums[parent] = dx if before is None else before + dx  # as Node.accumulate will add
                input.contribution, input.before, input.after = map(self.snap, (dx, before, sums[parent]))
                input.local = local.get(i)
        return inputs

    def name(self, node):
        """What the caller of `trace` calls it, or the model, or the code."""
        name = self.names.get(node.order) or node.name or self.calls.names.get(node.order)
        return name or ("loss" if node.order == self.root and node.op else "")

    def snap(self, x):
        return snapshot(x, self.keep)

    def ledger(self):
        """All that was seen, with numbers from 1 in place of the engine's."""
        orders = sorted([*(step.number for step in self.steps), *self.leaves])
        numbers = {order: i for i, order in enumerate(orders, start=1)}
        for one in (*self.steps, *self.leaves.values()):
            one.number, one.inside = numbers[one.number], numbers.get(one.inside)
            for input in one.inputs if isinstance(one, Step) else ():
                input.number = numbers.get(input.number)
        leaves = sorted(self.leaves.values(), key=lambda leaf: leaf.number)
        return Ledger(self.steps, leaves, numbers[self.root], len(self.steps))


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
