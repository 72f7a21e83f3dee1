"""trace: watch one backward pass, and keep everything that was seen, in a Ledger (ledger.py tells what is in it).

    from tinygrad_lm.learn.trace import trace

    ledger = trace(lambda x, w: ops.tanh(x @ w).sum(), x, w)           # as gradcheck takes it
    ledger = trace(lambda: ops.cross_entropy(model(tokens), targets))
    ledger = trace(loss)                                               # a graph that is there: without lines and values
    print(ledger.where(op="tanh"))
    ledger.steps[0].inputs[0].contribution.array

The function runs with a recorder on (record.py), then the engine's own `backward` with its `visit`. Gradients are bit
for bit those of a plain backward, and they are in `.grad` afterwards as after one. Nothing stays behind.
"""

import inspect
from contextlib import contextmanager

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.graph import ancestors, unbroadcast
from tinygrad_lm.engine.tensor import Tensor, as_array
from tinygrad_lm.errors import ConfigError, GraphError
from tinygrad_lm.learn.ledger import Input, Leaf, Ledger, Step
from tinygrad_lm.learn.memory import Held, saved
from tinygrad_lm.learn.record import Recorder, short
from tinygrad_lm.learn.snapshot import snapshot


def trace(f, *inputs, names=None, keep=4096, local=4096):
    """Run f(*inputs), which gives a scalar, walk back from it, and return the Ledger of the walk.

    f       a function to a tensor of one number, or such a tensor itself, that no backward has walked yet
    inputs  tensors as they are; floating arrays and numbers become leaves
    names   {name: tensor} for values that are to be called something else than the code calls them
    keep    arrays of at most so many entries are kept whole, of others the statistics
    local   local derivatives of at most so many entries are worked out, by a backward of each unit of dy
    """
    recorder = Recorder(keep)
    loss = f
    if not isinstance(f, Tensor):
        if not callable(f):
            raise ConfigError(f"trace: expected a function or a tensor, found a {type(f).__name__}")
        with recorder.on():
            loss = f(*map(as_leaf, inputs))
        if not isinstance(loss, Tensor):
            raise GraphError(
                f"trace: the function returned a {type(loss).__name__}\n"
                "  rule : it returns the loss, a tensor of one number"
            )
    elif inputs:
        raise ConfigError("trace: inputs were given, but no function that takes them")
    if loss.node is not None and loss.node.op is not None:
        recorder.names[loss.node.order] = "loss"
    recorder.names |= {x.node.order: name for name, x in (names or {}).items() if x.node is not None}
    walk = Walk(recorder, keep, local)
    with recorder.on(), walk.on():
        loss.backward()
    return walk.ledger(loss.node.order)


def as_leaf(x):
    """Floating arrays and numbers as leaves, anything else as it is."""
    if isinstance(x, Tensor) or not (isinstance(x, (float, list)) or hasattr(x, "dtype")):
        return x
    x = as_array(x)
    return Tensor(x, requires_grad=x.dtype.kind in "fc")


class Walk:
    """Watches `Tensor.backward`: the one that trace calls, and those that a checkpoint calls on the way."""

    def __init__(self, recorder, keep, local):
        self.recorder, self.keep, self.local = recorder, keep, local
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
            begun = len(self.steps)
            found = self.enter(nodes)
            plain(tensor, seed, self.visit)
            self.leave(nodes)
            self.inner = [*self.steps[begun:], *found] if self.waiting else []

        Tensor.backward = watched
        try:
            yield self
        finally:
            Tensor.backward = plain

    def enter(self, nodes):
        """A backward begins that will pass these nodes. Returns the leaves that are new among them."""
        found = []
        for node in nodes:
            if node.op is not None:
                self.held.add(node)
            elif node.order not in self.leaves:
                name = node.name or self.recorder.names.get(node.order, "")
                value = self.recorder.values.get(node.order)
                found.append(Leaf(node.order, name, node.shape, value, self.snap(node.grad)))
        self.leaves |= {leaf.number: leaf for leaf in found}
        self.depths |= {node.order: 0 for node in nodes[:1]}
        self.waiting.append([node for node in reversed(nodes) if node.op is not None])
        return found

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
            name=self.recorder.names.get(node.order, ""),
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
                self.depths[parent.order] = min(
                    self.depths.get(parent.order, self.depths[node.order] + 1), self.depths[node.order] + 1
                )
            if parent is not None and dx is not None:
                before = sums.get(parent, parent.grad)
                sums[parent] = dx if before is None else before + dx  # as Node.accumulate will add
                input.contribution, input.before, input.after = map(self.snap, (dx, before, sums[parent]))
                input.local = local.get(i)
        return inputs

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
    """{input: ∂y/∂input} where that has at most `limit` entries: row k is the backward of dy = 1 at k, 0 elsewhere."""
    small = [i for i, dx in enumerate(dxs) if dx is not None and 0 < dy.size * dx.size <= limit]
    rows = {i: [] for i in small}
    for k in range(dy.size if small else 0):
        unit = array_module(dy).zeros(dy.shape, dy.dtype)
        unit.reshape(-1)[k] = 1
        with np.errstate(all="ignore"):
            found = node.backward(unit)
        for i in small:
            dx = found[i]() if callable(found[i]) else found[i]
            rows[i].append(np.array(Tensor.of(unbroadcast(dx, node.parents[i].shape)).numpy()))
    return {i: np.stack(rows[i]).reshape((*dy.shape, *node.parents[i].shape)) for i in small}
