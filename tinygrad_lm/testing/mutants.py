"""Wrong derivatives, to see that the checks notice. Here such as fit any operation; tinygrad_lm/learn/puzzles/bugs.py
has a learner's.

A generic mutant takes an operation's way back and changes what it returns. Where it changes nothing, as a swap of two
equal gradients does, it is no mutant and is not counted. Broken engines are at the end.
"""

from itertools import combinations

import numpy as np
from hypothesis import Phase, given, settings

from tinygrad_lm.engine import graph
from tinygrad_lm.engine.graph import Node
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.testing.checks import finished
from tinygrad_lm.testing.drawing import signed


def some_cases(strategy, count=60):
    """The same drawn cases in every run."""
    cases = []

    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate])
    @given(strategy)
    def collect(case):
        cases.append(case)

    collect()
    return cases


# ---- changes: (way back that gives finished gradients, dy, inputs) -> gradients


def every(change):
    """Change each floating gradient by itself."""
    return lambda back, dy, inputs: [dx if dx is None else change(dx) for dx in back(dy)]


def of_cotangent(change):
    """The right gradient, of the wrong cotangent."""
    return lambda back, dy, inputs: back(np.asarray(change(np.asarray(dy)), dy.dtype))


def entry(place, change):
    """Change one entry, counted along the flat array."""

    def changed(dx):
        dx = dx.copy()
        if dx.size:
            dx.flat[place] = change(dx.flat[place])
        return dx

    return every(changed)


def second_zero(back, dy, inputs):
    dxs = back(dy)
    second = [i for i, dx in enumerate(dxs) if dx is not None][1:2]
    return [np.zeros_like(dx) if i in second else dx for i, dx in enumerate(dxs)]


def swapped(back, dy, inputs):
    dxs = back(dy)
    for i, j in combinations(range(len(dxs)), 2):
        if dxs[i] is not None and dxs[j] is not None and dxs[i].shape == dxs[j].shape:
            dxs[i], dxs[j] = dxs[j], dxs[i]
            break
    return dxs


def transposed(dx):
    return dx.swapaxes(-1, -2) if dx.ndim >= 2 and dx.shape[-1] == dx.shape[-2] else dx


def scribbles_on_dy(back, dy, inputs):
    dxs = [dx if dx is None else dx.copy() for dx in back(dy)]
    dy *= 2
    return dxs


def scribbles_on_an_input(back, dy, inputs):
    dxs = [dx if dx is None else dx.copy() for dx in back(dy)]
    for x in inputs:
        if x.dtype.kind == "f" and x.flags.writeable:
            x += 1
    return dxs


GENERIC = {
    "zero": every(lambda dx: dx * 0),
    "wrong sign": every(lambda dx: -dx),
    "twice": every(lambda dx: 2 * dx),
    "× 1.01": every(lambda dx: dx * 1.01),
    "× (1 + 1e-4)": every(lambda dx: dx * (1 + 1e-4)),
    "× (1 + 1e-9)": every(lambda dx: dx * (1 + 1e-9)),
    "first entry dropped": entry(0, lambda value: 0),
    "last entry dropped": entry(-1, lambda value: 0),
    "last entry × 1.001": entry(-1, lambda value: value * 1.001),
    "rolled by one": every(lambda dx: np.roll(dx, 1)),
    "transposed where square": every(transposed),
    "first axis reversed": every(lambda dx: dx[::-1] if dx.ndim else dx),
    "averaged": every(lambda dx: np.full_like(dx, dx.mean()) if dx.size else dx),
    "absolute value": every(abs),
    "1e-6 added": every(lambda dx: dx + 1e-6),
    "noise of 1e-6": every(lambda dx: dx + 1e-6 * signed(np.random.default_rng(1), dx.shape)),
    "rounded to float32": every(lambda dx: dx.astype(np.float32).astype(dx.dtype)),
    "left in float32": every(lambda dx: dx.astype(np.float32)),
    "flattened": every(np.ravel),
    "cotangent ignored": of_cotangent(np.ones_like),
    "cotangent averaged": of_cotangent(lambda dy: np.full_like(dy, dy.mean()) if dy.size else dy),
    "cotangent's absolute value": of_cotangent(abs),
    "cotangent squared": of_cotangent(lambda dy: dy * dy),
    "second gradient zero": second_zero,
    "gradients swapped": swapped,
    "scribbles on dy": scribbles_on_dy,
    "scribbles on an input": scribbles_on_an_input,
}


def mutated(rule, change):
    """The rule with its way back changed."""

    def mutant(*inputs, **options):
        y, backward = rule(*inputs, **options)

        def back(dy):
            return [finished(dx, x) for dx, x in zip(backward(dy), inputs, strict=True)]

        return y, lambda dy: tuple(change(back, dy, inputs))

    return mutant


def changes_something(op, change, case):
    """Whether the mutant differs from the rule on this case in anything: a number, a dtype, a shape, what it writes."""

    def everything(rule):
        copy = type(case)(tuple(np.array(x) for x in case.inputs), case.options)
        y, backward = rule(*copy.inputs, **copy.options)
        dy = np.asarray(-signed(np.random.default_rng(7), y.shape)).astype(y.dtype)
        dxs = [finished(dx, x) for dx, x in zip(backward(dy), copy.inputs, strict=True)]
        return [dx for dx in dxs if dx is not None] + [dy, *copy.inputs]

    right = everything(op.rule)
    try:
        wrong = everything(mutated(op.rule, change))
    except ShapeError:
        return True
    return any(a.dtype != b.dtype or not np.array_equal(a, b) for a, b in zip(right, wrong, strict=True))


# ---- broken engines: what to replace, and by what


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
