"""Wrong derivatives that fit any operation, to see that the checks notice them.

A generic mutant changes what an operation's gradient function returns. Where it changes nothing, as a swap of two
equal gradients does, it is not a mutant and is not counted. A learner's mistakes, operation by operation, are in
tinygrad_lm/learn/puzzles/.
"""

from itertools import chain, combinations, islice

import numpy as np

from tinygrad_lm.errors import ShapeError
from tinygrad_lm.testing.checks import finished
from tinygrad_lm.testing.drawing import signed

FIRST = 10


def notices(check, rule, cases):
    """Whether the check fails for this rule on one of the cases, or the rule breaks on the way."""
    for seed, case in enumerate(cases):
        try:
            check(rule, case.copy(), np.random.default_rng(seed))  # a copy: mutants may write on their inputs
        except Exception:
            return True
    return False


def killers(rule, cases, checks):
    """The titles of the checks that notice that this rule is wrong, on the first cases; on the others if none does.

    Most mistakes show at once, and the checks that do not see one would look at every case in vain.
    """
    cases = iter(cases)
    for some in map(list, (islice(cases, FIRST), cases)):
        if found := [title for title, check in checks.items() if notices(check, rule, some)]:
            return found
    return []


def generic_mutants(rule, cases, checks):
    """{title: those who notice it} for each mutant that changes something, and None for one that does not."""
    found, right = {}, [outcome(rule, case) for case in cases]
    for title, change in GENERIC.items():
        mutant = mutated(rule, change)
        some = (case for case, y in zip(cases, right, strict=True) if differs(y, mutant, case))
        first = next(some, None)
        found[title] = None if first is None else killers(mutant, chain([first], some), checks)
    return found


# ---- changes: (gradient function that gives finished gradients, dy, inputs) -> gradients


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
    """The rule with its gradient function changed."""

    def mutant(*inputs, **options):
        y, backward = rule(*inputs, **options)

        def back(dy):
            return [finished(dx, x) for dx, x in zip(backward(dy), inputs, strict=True)]

        return y, lambda dy: tuple(change(back, dy, inputs))

    return mutant


def outcome(rule, case):
    """All that a rule gives on a case: its gradients, and the cotangent and the inputs as they are afterwards."""
    copy = case.copy()
    y, backward = rule(*copy.inputs, **copy.options)
    dy = np.asarray(-signed(np.random.default_rng(7), y.shape)).astype(y.dtype)
    dxs = [finished(dx, x) for dx, x in zip(backward(dy), copy.inputs, strict=True)]
    return [dx for dx in dxs if dx is not None] + [dy, *copy.inputs]


def differs(right, mutant, case):
    """Whether the mutant differs from the right outcome in anything: a number, a dtype, a shape, what it writes."""
    try:
        wrong = outcome(mutant, case)
    except ShapeError:
        return True
    return any(a.dtype != b.dtype or not np.array_equal(a, b) for a, b in zip(right, wrong, strict=True))
