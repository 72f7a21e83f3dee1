"""What a rule must return, and the errors that name the operation whose rule returned something else.

A rule returns its value and a function `backward`; `backward` returns a tuple with one gradient for each input.
"""

import traceback

from tinygrad_lm.engine.graph import ancestors
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import GradientError


def kind(value):
    """What a value is, for messages: "an array of shape (3,)", "a tuple of 3"."""
    if hasattr(value, "shape"):
        return f"an array of shape {value.shape}"
    if value is None:
        return "None"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}: {value!r:.40}"


def malformed(dxs, count):
    """What is wrong with the form of what `backward` returned for so many inputs; "" if nothing is."""
    if not isinstance(dxs, tuple | list):
        return f"backward returned {kind(dxs)}; expected a tuple with one gradient for each input: `return (dx,)`"
    if len(dxs) != count:
        return f"backward returned {kind(tuple(dxs))} gradients; expected {count}, one for each input, or None"
    for dx in dxs:
        if not (dx is None or callable(dx) or hasattr(dx, "dtype")):
            return f"a gradient is {kind(dx)}; expected an array, or None"
    return ""


def value_of(f, tensors):
    """f(*tensors), a tensor; raise GradientError where it is not one, or where a rule does not return a pair."""
    try:
        y = f(*tensors)
    except Exception as error:
        cause = error.__cause__ or error
        *_, (frame, _) = traceback.walk_tb(cause.__traceback__)
        if frame.f_code is not Op.__call__.__code__:  # the rule had returned by then, or could not be called
            raise
        raise broken(frame.f_locals["self"], f"{type(cause).__name__}: {cause}") from error
    if not isinstance(y, Tensor):
        raise GradientError(f"gradcheck: the function returned {kind(y)}; expected a tensor that its inputs went into")
    return y


def broken(op, found):
    """The error for an operation whose rule does not return what it should."""
    return GradientError(
        f"gradcheck: operation {op.name}: {found}\n"
        "  rule : it returns its value and a function from dy to a tuple of gradients: `return y, backward`\n"
        f"  op   : {op.formula}\n"
        f"  input: {', '.join(p.name for p in op.parameters)}"
    )


def differentiate(y, dy):
    """y.backward(dy), in which every operation's gradients must have the right form, and a failure names it."""
    at = y.node

    def strictly(node):
        backward = node.backward

        def checked(dy):
            nonlocal at
            at = node
            if not callable(backward):
                raise broken(node.op, f"in place of `backward` the rule returned {kind(backward)}")
            dxs = backward(dy)
            if problem := malformed(dxs, len(node.parents)):
                raise broken(node.op, problem)
            return dxs

        node.backward = checked

    for node in ancestors(y.node):
        if node.op is not None:
            strictly(node)
    try:
        y.backward(dy)
    except GradientError:
        raise
    except Exception as error:
        raise broken(at.op, f"{type(error).__name__}: {error}") from error
