"""What must hold of every rule, on every input. test_mutants.py shows that each check can fail.

Each takes a rule (a function of arrays: value and gradient function), a Case and a generator of numbers, and raises an
AssertionError that says what is wrong. For the reason behind the tolerance see `testing/gradcheck.py`: a complex step
knows a derivative to about fifteen digits, so twelve are asked for. What holds of operations on tensors and in short
floats is in op_checks.py.
"""

import numpy as np

from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.derivatives import COMPLEX
from tinygrad_lm.testing.drawing import CHANGES_VALUES, LAYOUTS, signed
from tinygrad_lm.testing.form import kind, malformed

TOLERANCE = 1e-12


def agree(found, expected, what, tolerance=None):
    """Equal shapes, and entries equal to twelve digits of the largest, or of 1. A NaN agrees with nothing."""
    tolerance = TOLERANCE if tolerance is None else tolerance
    assert np.shape(found) == np.shape(expected), f"{what}: shape {np.shape(found)} where {np.shape(expected)} is right"
    if np.size(expected):
        errors = abs(np.asarray(found) - expected) / max(1.0, abs(np.asarray(expected)).max())
        if not errors.max() <= tolerance:  # NaN is not
            place = np.unravel_index(np.argmax(np.where(np.isnan(errors), np.inf, errors)), errors.shape)
            raise AssertionError(
                f"{what}: at {[int(i) for i in place]} {np.asarray(found)[place].item()!r} where "
                f"{np.asarray(expected)[place].item()!r} is right, "
                f"error {errors[place]:.1e}"
            )


def same(found, expected, what):
    """Bitwise equal, but that +0 is −0."""
    assert np.shape(found) == np.shape(expected), f"{what}: shapes {np.shape(found)} and {np.shape(expected)}"
    assert np.array_equal(found, expected), f"{what}: {found} and {expected} are not the same"


def evaluate(rule, case):
    """The value, and a function from dy to the gradients as the engine finishes them: None for ids and conditions."""
    result = rule(*case.inputs, **case.options)
    assert isinstance(result, tuple) and len(result) == 2 and callable(result[1]), (  # noqa: PT018
        f"the rule returned {kind(result)}; expected its value and a function from dy to the gradients: "
        "`return y, backward`"
    )
    y, backward = result
    assert hasattr(y, "dtype"), f"the rule's value is {kind(y)}; expected an array"

    def gradients(dy):
        dxs = backward(dy)
        problem = malformed(dxs, len(case.inputs))
        assert not problem, problem
        return [finished(dx, x) for dx, x in zip(dxs, case.inputs, strict=True)]

    return np.asarray(y), gradients


def finished(dx, x):
    """A rule may leave out a gradient that is zero, give a function instead, and leave broadcasting to the engine."""
    if dx is None:
        return np.zeros(x.shape, x.dtype) if x.dtype.kind in "fc" else None
    dx = dx() if callable(dx) else dx
    assert hasattr(dx, "dtype"), f"a gradient is {kind(dx)}; expected an array, or None"
    return np.asarray(unbroadcast(dx, x.shape))


def slope(function, case, direction, derivative):
    """The derivative of function(case), a list of arrays, by its floating inputs in this direction.

    direction: {input: array}; the other inputs stay where they are.
    """
    directions = [direction.get(i, 0.0) if x.dtype.kind == "f" else None for i, x in enumerate(case.inputs)]
    return derivative.compute(lambda inputs: function(Case(tuple(inputs), case.options)), case.inputs, directions)


def units(x, size=1.0):
    """Directions that move one entry of x after the other, by 1 or by its entry of `size`."""
    for place in np.ndindex(x.shape):
        one = np.zeros(x.shape)
        one[place] = np.broadcast_to(size, x.shape)[place]
        yield one


def jacobians(rule, case, derivative=COMPLEX):
    """∂y/∂x, (y.size, x.size) for each floating input, column by column."""
    value, found = lambda case: [evaluate(rule, case)[0]], {}
    size = value(case)[0].size
    for i in case.floating:
        columns = [slope(value, case, {i: unit}, derivative)[0].reshape(1, -1) for unit in units(case.inputs[i])]
        found[i] = np.concatenate([np.empty((0, size)), *columns]).T
    return found


def every_entry(rule, case, rng, derivative=COMPLEX):
    """Each entry of each gradient is the numerical derivative's, under three random signed cotangents."""
    y, gradients = evaluate(rule, case)
    exact = jacobians(rule, case, derivative)
    for _ in range(3):
        u = signed(rng, y.shape)
        dxs = gradients(u)
        for i, jacobian in exact.items():
            right = (u.ravel() @ jacobian).reshape(case.inputs[i].shape)
            agree(dxs[i], right, f"gradient of input {i}", derivative.tolerance)


def adjoint(rule, case, rng, derivative=COMPLEX):
    """⟨J v, u⟩ = ⟨v, Jᵀ u⟩: backward is the Jacobian's transpose, along a random direction of all inputs."""
    y, gradients = evaluate(rule, case)
    u = signed(rng, y.shape)
    directions = {i: signed(rng, case.inputs[i].shape) for i in case.floating}
    forth = (slope(lambda case: [evaluate(rule, case)[0]], case, directions, derivative)[0] * u).sum()
    dxs = gradients(u)
    back = [(dxs[i] * v).sum() for i, v in directions.items()]
    size = max([1.0, *(abs(dxs[i]).sum() for i in case.floating)])
    tolerance = derivative.tolerance or TOLERANCE
    assert abs(forth - sum(back)) <= tolerance * size, f"⟨Jv, u⟩ = {forth!r} but ⟨v, Jᵀu⟩ = {sum(back)!r}"


def linear(rule, case, rng):
    """The gradient of 2u − 3v is twice u's less three times v's, and that of 0 is 0."""
    y, gradients = evaluate(rule, case)
    u, v = signed(rng, y.shape), signed(rng, y.shape)
    mixed, of_u, of_v, of_zero = gradients(2 * u - 3 * v), gradients(u), gradients(v), gradients(np.zeros(y.shape))
    for i in case.floating:
        agree(mixed[i], 2 * of_u[i] - 3 * of_v[i], f"gradient of input {i} under a sum of cotangents")
        same(of_zero[i], np.zeros(case.inputs[i].shape), f"gradient of input {i} under cotangent 0")


def contract(rule, case, rng):
    """In every dtype: one gradient of its shape and dtype for each floating input, None for ids and conditions."""
    for dtype in ("float64", "float32"):
        case = case.to(dtype)
        y, gradients = evaluate(rule, case)
        assert y.dtype == dtype, f"the value is {y.dtype} for {dtype} inputs"
        for i, (x, dx) in enumerate(zip(case.inputs, gradients(signed(rng, y.shape).astype(dtype)), strict=True)):
            assert (dx is None) == (x.dtype.kind != "f"), f"input {i}: {x.dtype} with gradient {dx}"
            if dx is not None:
                found, expected = (dx.shape, dx.dtype), (x.shape, x.dtype)
                assert found == expected, f"gradient of input {i}: {found} where {expected} is right"


def unchanged(rule, case, rng):
    """Nothing handed over is written to, the value neither, and a second backward pass gives the same."""
    before = [x.copy() for x in case.inputs]
    y, gradients = evaluate(rule, case)
    u = signed(rng, y.shape)
    u.flags.writeable = False
    value, first, second = y.copy(), gradients(u), gradients(u)
    for i in case.floating:
        same(first[i], second[i], f"gradient of input {i}, computed twice")
    same(y, value, "the value, before and after the backward pass")
    for i, (x, copy) in enumerate(zip(case.inputs, before, strict=True)):
        same(x, copy, f"input {i}, before and after")


def any_layout(rule, case, rng):
    """How the inputs and the cotangent lie in memory makes no difference."""
    y, gradients = evaluate(rule, case)
    u = signed(rng, y.shape)
    for name, arranged in LAYOUTS.items():
        dy = np.asarray(arranged(u))
        for i, (found, expected) in enumerate(zip(gradients(dy), gradients(dy.copy("C")), strict=True)):
            if found is not None:
                agree(found, expected, f"gradient of input {i} under a cotangent of layout {name}")
        if name != CHANGES_VALUES:
            value, back = evaluate(rule, Case(tuple(np.asarray(arranged(x)) for x in case.inputs), case.options))
            agree(value, y, f"the value of inputs of layout {name}")
            for i, (found, expected) in enumerate(zip(back(u), gradients(u), strict=True)):
                if found is not None:
                    agree(found, expected, f"gradient of input {i}, all inputs of layout {name}")


def nan_comes_out(rule, case, rng):
    """A NaN makes NaN of all that depends on it: in an input of the value, in the cotangent of the gradients.

    What depends on a number is found by exchanging it for two others.
    """

    def follow(compute, x, what):
        if not x.size:
            return
        place = tuple(int(rng.integers(n)) for n in x.shape)

        def outcomes(number):
            moved = x.copy()
            moved[place] = number
            return compute(moved)

        with np.errstate(all="ignore"):
            before, *others, after = map(outcomes, (x[place], -2 * x[place], 4 * x[place] + 1, np.nan))
        for j, y in enumerate(before):
            if y is not None:
                depends = np.logical_or(*(other[j] != y for other in others))
                lost = depends & ~np.isnan(after[j])
                assert not lost.any(), f"a NaN in {what} at {list(place)} is lost: {after[j][lost][0]} comes out"

    for i in case.floating:
        before, behind = case.inputs[:i], case.inputs[i + 1 :]
        value = lambda x, before=before, behind=behind: [evaluate(rule, Case((*before, x, *behind), case.options))[0]]
        follow(value, case.inputs[i], f"input {i}")
    y, gradients = evaluate(rule, case)
    follow(gradients, signed(rng, y.shape), "the cotangent")


CHECKS = {
    f.__name__.replace("_", " "): f
    for f in (contract, unchanged, every_entry, adjoint, linear, any_layout, nan_comes_out)
}


def ties(rule, case, rng):
    """Where the greatest is not alone, what reaches the input is dy in all, however it is shared."""
    for same_numbers in (np.zeros(3), np.array([1.0, 4.0, 4.0])):
        inputs = (same_numbers,) * len(case.inputs)
        y, backward = rule(*inputs)
        dxs = backward(np.full(np.shape(y), 2.0))
        agree(sum(dx.sum() for dx in dxs), 2.0 * np.size(y), "sum of the gradients of equals")


def value_of(reference):
    """A check that the value is the reference's, computed in another way."""

    def value(rule, case, rng):
        """The value is the reference's, computed in another way."""
        y, _ = rule(*case.inputs, **case.options)
        agree(np.asarray(y), reference(*case.inputs, **case.options), "the value")

    return value
