"""A rule held against what is right: its value against the operation's own, its gradients against numerical ones."""

import math
from dataclasses import dataclass

import numpy as np

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import GradientError, ShapeError
from tinygrad_lm.learn.puzzles.examples import cotangent, short
from tinygrad_lm.testing.gradcheck import richardson

TOLERANCE = {"float64": 1e-8, "float32": 1e-4}  # of the largest entry, or of 1; Richardson's own error is near 1e-10


@dataclass
class Difference:
    """An array that is wrong: its name ("y", "dx", ...), what was found, and what is right."""

    what: str
    found: np.ndarray
    right: np.ndarray
    tolerance: float
    missing: bool = False  # the rule gave None, which counts as 0

    @property
    def wrong(self):
        """The indices of the entries that differ; a NaN does."""
        return [i for i in np.ndindex(self.right.shape) if not abs(self.found[i] - self.right[i]) <= self.limit]

    @property
    def limit(self):
        return self.tolerance * max(1.0, abs(self.right).max(initial=0))

    @property
    def factor(self):
        """found / right, if it is the same number for all entries that are not 0; else None."""
        some = abs(self.right) > self.limit
        ratios = self.found[some] / self.right[some]
        elsewhere = abs(self.found[~some]) <= self.limit
        if not ratios.size or not elsewhere.all() or not np.ptp(ratios) <= 1e-6 * abs(ratios).max():
            return None
        return float(ratios[0])

    @property
    def transposed(self):
        """Whether it is right except for the order of two axes."""
        square = self.right.ndim == 2 and self.found.T.shape == self.right.shape
        return bool(square and (abs(self.found.T - self.right) <= self.limit).all())

    def table(self, of="operation"):
        """At most eight wrong entries beside the right ones, and what the wrong ones have in common."""
        places, factor = self.wrong, self.factor
        source = f"what the {of} computes" if self.what == "y" else "a numerical derivative of this y"
        lines = [f"{self.what}, beside {source}:", f"  {'entry':<16}{'found':>14}{'right':>14}{'found / right':>16}"]
        for place in places[:8]:
            found, right = float(self.found[place]), float(self.right[place])
            right = 0.0 if abs(right) <= 1e-3 * self.limit else right  # smaller than the numerical error
            ratio = found / right if right else math.inf
            entry = self.what + (str(list(place)) if place else "")
            ratio = short(ratio) if abs(ratio) < 1000 else ""
            lines.append(f"  {entry:<16}{short(found):>14}{short(right):>14}{ratio:>16}".rstrip())
        if len(places) > 8:
            lines.append(f"  and {len(places) - 8} more")
        lines.append(f"  {len(places)} of {self.right.size} wrong")
        if self.missing:
            lines[-1] += "; backward gave None for it, which counts as 0"
        elif self.transposed:
            lines[-1] += "; it is the transpose of what is right"
        elif factor is not None and 1e-9 < abs(factor) < 1000 and self.right.size > 1:
            lines[-1] += f"; everywhere {short(factor)} times what is right"
        return "\n".join(lines)


def compare(rule, operation, example, dy=None, dtype="float64"):
    """All Differences of a rule that is meant to be an operation, on one example. dy: `cotangent` if None.

    In float64 the gradients are compared with derivatives of the rule's own value, in float32 with the operation's.
    Raises GradientError or ShapeError if what the rule returns cannot be compared at all.
    """
    op, inputs = Op.registry[operation], [read_only(x, dtype) for x in example.inputs]
    names = op.input_names(len(inputs))
    y, backward = call_rule(rule, inputs, example.options)
    expected, expected_backward = op.rule(*inputs, **example.options)
    check_array("the value y", y, expected.shape, dtype)
    dy = read_only(cotangent(y.shape) if dy is None else dy, dtype)
    found = gradients(backward, dy, inputs, names)
    if dtype == "float64":
        right = numerical_gradients(rule, example, dy, names)
    else:
        right = gradients(expected_backward, dy, inputs, names)
    missing = {f"d{name}" for name, dx in zip(names, backward(dy), strict=True) if dx is None}
    found, right = {"y": np.asarray(y)} | found, {"y": expected} | right
    pairs = [
        Difference(what, found[what], np.asarray(right[what]), TOLERANCE[dtype], what in missing) for what in found
    ]
    return [difference for difference in pairs if difference.wrong]


def read_only(x, dtype):
    """A copy that cannot be written on, of this dtype if x is floating: a rule must change neither inputs nor dy."""
    x = np.array(x, dtype if is_floating(np.asarray(x).dtype) else None)
    x.flags.writeable = False
    return x


def call_rule(rule, inputs, options):
    """The rule's value and its gradient function. Raises GradientError if it returns anything else."""
    result = rule(*inputs, **options)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise GradientError(
            f"a rule returns two things, its value and `backward`; this one returned {described(result)}"
        )
    return result


def gradients(backward, dy, inputs, names):
    """{"dx": gradient, ...} of the floating inputs, as the engine finishes them: None is 0, copies are added up."""
    dxs = backward(dy)
    if dxs is None:
        raise GradientError("backward returned None: is there a `return` at its end?")
    if not isinstance(dxs, (tuple, list)):
        hint = f"return a tuple: `return (d{names[0]},)`" if len(names) == 1 else "return one gradient for each input"
        raise GradientError(f"backward returned {described(dxs)}: {hint}")
    if len(dxs) != len(inputs):
        plural = "gradient" if len(dxs) == 1 else "gradients"
        inputs = f"{len(inputs)} input{'s' * (len(inputs) > 1)}"
        raise GradientError(
            f"backward returned {len(dxs)} {plural}, the rule has {inputs} here: {', '.join(names)}; "
            "return one for each, in this order, None for one without a gradient"
        )
    finished = {}
    for dx, x, name in zip(dxs, inputs, names, strict=True):
        if not is_floating(x.dtype):
            continue
        dx = np.zeros(x.shape, x.dtype) if dx is None else dx() if callable(dx) else dx
        what = f"the gradient of {name}"
        check_array(what, dx, None, str(x.dtype))
        try:
            finished[f"d{name}"] = np.asarray(unbroadcast(np.asarray(dx), x.shape))
        except ShapeError:
            hint = "; it is the transpose's shape" if dx.shape == x.shape[::-1] else ""
            raise ShapeError(f"{what} has shape {dx.shape} instead of {x.shape}, the shape of {name}{hint}") from None
    return finished


def check_array(what, x, shape, dtype):
    if not isinstance(x, (np.ndarray, np.generic)):
        raise GradientError(f"{what} is {described(x)}; expected an array")
    if shape is not None and x.shape != shape:
        raise ShapeError(f"{what} has shape {x.shape} instead of {shape}")
    if str(x.dtype) != dtype:
        raise GradientError(f"{what} has dtype {x.dtype} instead of {dtype}, the dtype of the inputs")


def described(x):
    if x is None or x is ...:
        return str(x)
    if isinstance(x, np.ndarray):
        return f"an array of shape {x.shape}"
    return f"a {type(x).__name__}" + (f" of {len(x)}" if isinstance(x, (tuple, list)) else "")


def numerical_gradients(rule, example, dy, names):
    """{"dx": ∂(Σ dy y)/∂x, ...} of the floating inputs, entry by entry, by Richardson's extrapolation."""
    inputs, right = example.inputs, {}
    for i, name in enumerate(names):
        if is_floating(inputs[i].dtype):

            def phi(place, step, i=i):
                moved = [np.array(x) for x in inputs]
                moved[i][place] += step
                return float((dy * rule(*moved, **example.options)[0]).sum())

            slopes = [richardson(phi, place, inputs[i][place])[0] for place in np.ndindex(inputs[i].shape)]
            right[f"d{name}"] = np.array(slopes, float).reshape(inputs[i].shape)
    return right
