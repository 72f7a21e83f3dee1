"""What must hold of an operation as a whole: on tensors, by a second judge, and in short floats.

Each takes an operation, a Case and a generator of numbers, and raises an AssertionError or a GradientError.
"""

import numpy as np

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.testing.case import Case
from tinygrad_lm.testing.checks import agree, evaluate, finished, same, slope, units
from tinygrad_lm.testing.derivatives import COMPLEX
from tinygrad_lm.testing.drawing import signed
from tinygrad_lm.testing.gradcheck import gradcheck


def on_tensors(op, case, rng):
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
                y, gradients = evaluate(op.rule, Case(tuple(inputs), case.options))
                u = signed(rng, y.shape)
                tensors = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
                tensors[j] = tensors[i]
                op(*tensors, **case.options).backward(u)
                dxs = gradients(u)
                found = finished(tensors[i].grad, inputs[i])
                agree(found, dxs[i] + dxs[j], f"gradient of one tensor as inputs {i} and {j}")


def richardson(op, case, rng):
    """A second judge: real numbers only, so it does not depend on the rules' being right on complex ones."""
    f, unused = lambda *xs: op(*xs, **case.options), range(len(case.inputs))
    gradcheck(f, *case.inputs, method="richardson", entries=4, allow_unused=unused, verbose=False)


OP_CHECKS = {f.__name__.replace("_", " "): f for f in (on_tensors, one_input_twice, richardson)}


def precision(rule, case, rng, dtype, c, derivative=COMPLEX):
    """In a shorter dtype the value and the gradients are off by no more than c·eps·condition.

    The condition of a number is how far it moves when every entry it was computed from moves by its own size:
    Σ |∂/∂xⱼ| |xⱼ|. For the gradients that takes second derivatives, by differentiating the backward pass as well.
    """

    def everything(case):
        *inputs, dy = case.inputs
        y, gradients = evaluate(rule, Case(tuple(inputs), case.options))
        return [y, *(dx for dx in gradients(dy) if dx is not None)]

    case = case.to(dtype)
    dy = signed(rng, evaluate(rule, case)[0].shape).astype(dtype)
    case = Case((*case.inputs, dy), case.options)
    found, case = everything(case), case.to("float64")
    expected = everything(case)
    condition = [np.maximum(1, abs(value)) for value in expected]
    for i in case.floating:
        for unit in units(case.inputs[i], abs(case.inputs[i])):
            for j, change in enumerate(slope(everything, case, {i: unit}, derivative)):
                condition[j] = condition[j] + abs(change)
    for number, limit, value in zip(found, condition, expected, strict=True):
        assert np.isfinite(number).all(), f"{dtype} overflows where float64 gives {abs(value).max():.3g}"
        ratio = (abs(number - value) / (np.finfo(dtype).eps * limit)).max(initial=0)
        assert ratio <= c, f"off by {ratio:.1f} eps × condition in {dtype}"
