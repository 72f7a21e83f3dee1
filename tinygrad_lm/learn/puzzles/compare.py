"""A rule beside what is right: its value beside the operation's own, its gradients beside numerical derivatives."""

import inspect
from dataclasses import dataclass

import numpy as np

from tinygrad_lm.backend import is_floating
from tinygrad_lm.engine.graph import unbroadcast
from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import GradientError, ShapeError
from tinygrad_lm.learn.puzzles.examples import cotangent
from tinygrad_lm.testing.gradcheck import richardson

TOLERANCE = {"float64": 1e-8, "float32": 1e-4}  # of the largest entry, or of 1; Richardson's own error is near 1e-10


@dataclass
class Difference:
    """An array that is wrong: what it is ("y", "dx", ...), what was found, and what is right."""

    what: str
    found: np.ndarray
    right: np.ndarray
    tolerance: float
    missing: bool = False  # the rule gave None, which counts as 0

    @property
    def wrong(self):
        """The places of the entries that differ; a NaN does."""
        return [i for i in np.ndindex(self.right.shape) if not abs(self.found[i] - self.right[i]) <= self.limit]

    @property
    def limit(self):
        return self.tolerance * max(1.0, abs(self.right).max(initial=0))

    @property
    def factor(self):
        """found / right, if it is one number over all entries, and there are entries that are not 0; else None."""
        some = abs(self.right) > self.limit
        ratios = self.found[some] / self.right[some]
        elsewhere = abs(self.found[~some]) <= self.limit
        if not ratios.size or not elsewhere.all() or not np.ptp(ratios) <= 1e-6 * abs(ratios).max():
            return None
        return float(ratios[0])

    @property
    def transposed(self):
        """Whether it is right but for the order of two axes."""
        square = self.right.ndim == 2 and self.found.T.shape == self.right.shape
        return bool(square and (abs(self.found.T - self.right) <= self.limit).all())


def names(rule, inputs):
    """The inputs' names, as the rule calls them."""
    found = []
    for p in inspect.signature(rule).parameters.values():
        found += [f"{p.name}[{i}]" for i in range(len(inputs))] if p.kind is p.VAR_POSITIONAL else [p.name]
    return found[: len(inputs)]


def compare(rule, operation, example, dy=None, dtype="float64"):
    """All Differences of a rule that is meant to be an operation, on one example. dy: `cotangent` if None.

    The gradients are compared with derivatives of the rule's own value. Raises GradientError or ShapeError where what
    the rule returns cannot be compared at all.
    """
    inputs = [frozen(x, dtype) for x in example.inputs]
    y, backward = value_and_way_back(rule, inputs, example.options)
    expected = Op.registry[operation].rule(*inputs, **example.options)[0]
    check_array("the value y", y, expected.shape, dtype)
    tolerance = TOLERANCE[dtype]
    dy = frozen(cotangent(y.shape) if dy is None else dy, dtype)
    found = gradients(backward, dy, inputs, names(rule, inputs))
    pairs = [("y", np.asarray(y), np.asarray(expected))]
    if dtype == "float64":
        right = derivatives(rule, example, dy)
    else:
        right = gradients(Op.registry[operation].rule(*inputs, **example.options)[1], dy, inputs, names(rule, inputs))
    pairs += [(what, found[what], np.asarray(right[what])) for what in found]
    missing = {f"d{name}" for name, dx in zip(names(rule, inputs), backward(dy), strict=True) if dx is None}
    differences = [Difference(*pair, tolerance, pair[0] in missing) for pair in pairs]
    return [one for one in differences if one.wrong]


def frozen(x, dtype):
    """A copy that nobody can write on, floating numbers in this dtype: inputs and dy belong to others, too."""
    x = np.array(x, dtype if is_floating(np.asarray(x).dtype) else None)
    x.flags.writeable = False
    return x


def value_and_way_back(rule, inputs, options):
    result = rule(*inputs, **options)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise GradientError(
            f"a rule returns two things, its value and `backward`; this one returned {described(result)}"
        )
    return result


def gradients(backward, dy, inputs, names):
    """{"dx": gradient, ...} of the floating inputs, as the engine would finish them: None is 0, copies are added up."""
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
        raise GradientError(f"{what} has dtype {x.dtype} instead of {dtype}, that of the inputs")


def described(x):
    if x is None or x is ...:
        return str(x)
    if isinstance(x, np.ndarray):
        return f"an array of shape {x.shape}"
    return f"a {type(x).__name__}" + (f" of {len(x)}" if isinstance(x, (tuple, list)) else "")


def derivatives(rule, example, dy):
    """{"dx": ∂(Σ dy y)/∂x, ...} of the floating inputs, entry by entry, numerically."""
    inputs, right = example.inputs, {}
    for i, name in enumerate(names(rule, inputs)):
        if is_floating(inputs[i].dtype):

            def phi(place, step, i=i):
                moved = [np.array(x) for x in inputs]
                moved[i][place] += step
                return float((dy * rule(*moved, **example.options)[0]).sum())

            slopes = [richardson(phi, place, inputs[i][place])[0] for place in np.ndindex(inputs[i].shape)]
            right[f"d{name}"] = np.array(slopes, float).reshape(inputs[i].shape)
    return right
