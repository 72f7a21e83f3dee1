"""What must hold of every rule. test_properties.py looks at it on drawn cases; test_mutants.py shows that it can fail.

Each check takes a rule (a function of arrays: value and way back), a Case and a generator of numbers, and raises an
AssertionError that says what is wrong. For the reason behind the tolerance see `testing/gradcheck.py`: a complex step
knows a derivative to about fifteen digits, so twelve are asked for.
"""

import numpy as np

from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.testing.drawing import LAYOUTS, signed

TOLERANCE = 1e-12
H = 1e-30  # the complex step: nothing is subtracted, so it may be as small as one likes


def agree(found, expected, what, tolerance=None):
    """Equal shapes, and entries equal to twelve digits of the largest, or of 1. A NaN agrees with nothing."""
    tolerance = TOLERANCE if tolerance is None else tolerance
    assert np.shape(found) == np.shape(expected), f"{what}: shape {np.shape(found)} where {np.shape(expected)} is right"
    if np.size(expected):
        errors = abs(np.asarray(found) - expected) / max(1.0, abs(np.asarray(expected)).max())
        place = np.unravel_index(np.argmax(np.where(np.isnan(errors), np.inf, errors)), errors.shape)
        assert errors[place] <= tolerance, (
            f"{what}: at {[int(i) for i in place]} {found[place]!r} where {expected[place]!r} is right, "
            f"error {errors[place]:.1e}"
        )


def same(found, expected, what):
    """Bitwise equal, but that +0 is −0."""
    assert np.shape(found) == np.shape(expected), f"{what}: shapes {np.shape(found)} and {np.shape(expected)}"
    assert np.array_equal(found, expected), f"{what}: {found} and {expected} are not the same"


def evaluate(rule, case):
    """The value, and a function from dy to the gradients as the engine finishes them: None for ids and conditions."""
    y, backward = rule(*case.inputs, **case.options)

    def gradients(dy):
        dxs = backward(dy)
        assert len(dxs) == len(case.inputs), f"{len(dxs)} gradients for {len(case.inputs)} inputs"
        return [finished(dx, x) for dx, x in zip(dxs, case.inputs, strict=True)]

    return np.asarray(y), gradients


def finished(dx, x):
    """A rule may leave out a gradient that is zero, give a function instead, and leave broadcasting to the engine."""
    if dx is None:
        return np.zeros(x.shape, x.dtype) if x.dtype.kind in "fc" else None
    return np.asarray(unbroadcast(dx() if callable(dx) else dx, x.shape))


def in_complex(case):
    return [x.astype(complex) if x.dtype.kind == "f" else x for x in case.inputs]


def jacobians(rule, case):
    """∂y/∂x, (y.size, x.size) for each floating input, column by column by complex step."""
    inputs, found = in_complex(case), {}
    size = rule(*case.inputs, **case.options)[0].size
    for i in case.floating:
        columns = [np.empty((0, size))]
        for place in np.ndindex(inputs[i].shape):
            moved = inputs[i].copy()
            moved[place] += 1j * H
            y, _ = rule(*inputs[:i], moved, *inputs[i + 1 :], **case.options)
            columns.append(np.reshape(y.imag / H, (1, -1)))
        found[i] = np.concatenate(columns).T
    return found


def every_entry(rule, case, rng):
    """Each entry of each gradient is the complex step's, under three random signed cotangents."""
    y, gradients = evaluate(rule, case)
    exact = jacobians(rule, case)
    for _ in range(3):
        u = signed(rng, y.shape)
        dxs = gradients(u)
        for i, jacobian in exact.items():
            agree(dxs[i], (u.ravel() @ jacobian).reshape(case.inputs[i].shape), f"gradient of input {i}")


def adjoint(rule, case, rng):
    """⟨J v, u⟩ = ⟨v, Jᵀ u⟩: the way back is the transpose of the way forth, along a random direction of all inputs."""
    y, gradients = evaluate(rule, case)
    u = signed(rng, y.shape)
    directions = [signed(rng, x.shape) if x.dtype.kind == "f" else 0 for x in case.inputs]
    moved = [x + 1j * H * v if x.dtype.kind == "f" else x for x, v in zip(case.inputs, directions, strict=True)]
    forth = (np.asarray(rule(*moved, **case.options)[0]).imag / H * u).sum()
    dxs = gradients(u)
    back = [(dxs[i] * directions[i]).sum() for i in case.floating]
    size = max([1.0, *(abs(dxs[i]).sum() for i in case.floating)])
    assert abs(forth - sum(back)) <= TOLERANCE * size, f"⟨Jv, u⟩ = {forth!r} but ⟨v, Jᵀu⟩ = {sum(back)!r}"


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
    """Nothing handed over is written to, the value neither, and a second way back gives the same."""
    before = [x.copy() for x in case.inputs]
    y, gradients = evaluate(rule, case)
    u = signed(rng, y.shape)
    u.flags.writeable = False
    value, first, second = y.copy(), gradients(u), gradients(u)
    for i in case.floating:
        same(first[i], second[i], f"gradient of input {i}, computed twice")
    same(y, value, "the value, before and after the way back")
    for i, (x, copy) in enumerate(zip(case.inputs, before, strict=True)):
        same(x, copy, f"input {i}, before and after")


def any_layout(rule, case, rng):
    """How the cotangent lies in memory makes no difference."""
    y, gradients = evaluate(rule, case)
    u = signed(rng, y.shape)
    for name, arranged in LAYOUTS.items():
        dy = np.asarray(arranged(u))
        for i, (found, expected) in enumerate(zip(gradients(dy), gradients(dy.copy("C")), strict=True)):
            if found is not None:
                agree(found, expected, f"gradient of input {i} under a cotangent of layout {name}")


CHECKS = {f.__name__.replace("_", " "): f for f in (every_entry, adjoint, linear, contract, unchanged, any_layout)}


def precision(rule, case, rng, dtype, c):
    """In a shorter dtype the value and the gradients are off by no more than c·eps·condition.

    The condition of a number is how far it moves when every entry it was computed from moves by its own size:
    Σ |∂/∂xⱼ| |xⱼ|. For the gradients that takes second derivatives, which the complex step finds by going through
    the way back as well.
    """

    def everything(case, dy):
        y, gradients = evaluate(rule, case)
        return [y, *(dx for dx in gradients(dy) if dx is not None)]

    case = case.to(dtype)
    dy = signed(rng, evaluate(rule, case)[0].shape).astype(dtype)
    found = everything(case, dy)
    case, dy = case.to("float64"), dy.astype("float64")
    expected = everything(case, dy)
    condition = [np.maximum(1, abs(value)) for value in expected]
    inputs = [*in_complex(case), dy + 0j]
    for i in [*case.floating, len(inputs) - 1]:
        for place in np.ndindex(inputs[i].shape):
            moved = [np.array(x) for x in inputs]
            moved[i][place] += 1j * H * abs(inputs[i][place])
            for j, value in enumerate(everything(type(case)(moved[:-1], case.options), moved[-1])):
                condition[j] = condition[j] + abs(value.imag) / H
    for number, limit, value in zip(found, condition, expected, strict=True):
        assert np.isfinite(number).all()
        ratio = (abs(number - value) / (np.finfo(dtype).eps * limit)).max(initial=0)
        assert ratio <= c, f"off by {ratio:.1f} eps × condition in {dtype}"


def as_tensors(op, case, rng):
    """On tensors the operation gives bit for bit what its rule or kernel gives alone; leaves add up what comes."""
    y, gradients = evaluate(op.run, case)
    u = signed(rng, y.shape)
    kept = u.copy()
    leaves = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in case.inputs]
    for count in (1, 2):
        result = op(*leaves, **case.options)
        same(result.data, y, "value of the rule and of the operation")
        assert type(result.data) is np.ndarray, f"the value is a {type(result.data)}, not an array"
        result.backward(u)
        for i, (leaf, dx) in enumerate(zip(leaves, gradients(u), strict=True)):
            if leaf.grad is None:
                assert dx is None or not dx.any(), f"no gradient arrived at input {i}"
            else:
                same(leaf.grad, count * dx, f"gradient of input {i} after {count} backward passes")
                assert leaf.grad.dtype == leaf.dtype
                assert not np.shares_memory(leaf.grad, u), f"gradient of input {i} lies in the cotangent's memory"
    same(u, kept, "the cotangent, before and after")


def one_input_twice(op, case, rng):
    """f(x, x): the gradient is the sum of both inputs' gradients."""
    for i in case.floating:
        for j in case.floating:
            if i < j and case.inputs[i].shape == case.inputs[j].shape:
                inputs = list(case.inputs)
                inputs[j] = inputs[i].copy()
                y, gradients = evaluate(op.rule, type(case)(tuple(inputs), case.options))
                u = signed(rng, y.shape)
                tensors = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
                tensors[j] = tensors[i]
                op(*tensors, **case.options).backward(u)
                dxs = gradients(u)
                found = finished(tensors[i].grad, inputs[i])
                agree(found, dxs[i] + dxs[j], f"gradient of one tensor as inputs {i} and {j}")


# ---- kinks, where no derivative is to compare with


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
        y, _ = rule(*case.inputs, **case.options)
        agree(np.asarray(y), reference(*case.inputs, **case.options), "value")

    return value
