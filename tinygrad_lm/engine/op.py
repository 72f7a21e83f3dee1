"""@op: makes an operation on tensors out of a rule, one short function on arrays.

A rule computes its value and hands back the way to its gradient:

    @op
    def multiply(a, b):
        '''y = a b        da = dy b,  db = dy a

        a, b: any shapes that broadcast
        '''
        return a * b, lambda dy: (dy * b, dy * a)

Positional arguments are the inputs, keyword arguments are options. The rule sees arrays only, so it can be called
alone, as `y, backward = multiply.rule(a, b)`. `backward(dy)` returns one gradient per input: an array of the input's
shape, or of the shape it was broadcast to (the engine undoes broadcasting); None where there is none; or a function
that computes it, for a gradient that costs much and may not be wanted. What `backward` mentions is what is kept alive.
Rules neither change their inputs nor dy, for others hold those arrays too.
"""

import functools
import inspect
from typing import ClassVar

import numpy as np

from tinygrad_lm.backend import device_of, is_floating, wide
from tinygrad_lm.engine.graph import Node, mode, unbroadcast
from tinygrad_lm.engine.tensor import Tensor, as_array
from tinygrad_lm.errors import DeviceError, DtypeError, ShapeError, TinygradError


class Op:
    """An operation on tensors. Called, it computes the rule's value and records the way back.

    name       the rule's name, under which Op.registry lists it
    rule       the definition
    kernels    faster stand-ins with the rule's contract, by device
    formula    the first line of the docstring: value and derivative in the field's notation
    signature  the next line: the shapes that fit; what a docstring does not say is the rule's own head
    """

    registry: ClassVar = {}

    def __init__(self, rule):
        functools.update_wrapper(self, rule)
        self.name, self.rule, self.kernels = rule.__name__, rule, {}
        lines = [line for line in (inspect.getdoc(rule) or "").splitlines() if line]
        lines += [f"{self.name}{inspect.signature(rule)}"] * 2
        self.formula, self.signature = lines[0], lines[1]
        Op.registry[self.name] = self

    def kernel(self, device):
        """Decorator: use this function instead of the rule for arrays on `device`."""

        def register(function):
            self.kernels[device] = function
            return function

        return register

    def __call__(self, *inputs, **options):
        try:
            parents = [x.node for x in inputs]
            arrays = [x.data for x in inputs]
        except AttributeError:  # a bare array or number is among them; arrays have .data, too, but no .node
            inputs = _tensors(inputs)
            arrays = [x.data for x in inputs]
            parents = [x.node for x in inputs]
        rule = self.kernels.get(device_of(arrays[0]), self.rule) if self.kernels else self.rule
        try:
            y, backward = rule(*arrays, **options)
        except (ValueError, IndexError, TypeError) as error:
            self._explain(error, inputs)
            raise
        for array in arrays:
            if array.dtype is not y.dtype and len(arrays) > 1:
                self._check_dtypes(inputs, y)
                break
        if not y.ndim:
            y = as_array(y)  # NumPy's reductions give scalars of their own kind
        recorded = mode.recording and any(parents)
        return Tensor.of(y, Node(self, parents, backward, y.shape) if recorded else None)

    def __repr__(self):
        return f"<op {self.name}: {self.formula}>"

    def _check_dtypes(self, inputs, y):
        """Floating inputs and the value must agree: one float64 that slips in doubles the cost of all that follows.

        Only a loss, one number, may be a float32 where half precision went in. y is None if nothing came of it.
        """
        floating = {x.dtype for x in inputs if is_floating(x.dtype)}
        allowed = floating if y is None or y.ndim else floating | {wide(dtype) for dtype in floating}
        if len(floating) > 1 or (floating and y is not None and is_floating(y.dtype) and y.dtype not in allowed):
            result = "" if y is None else f"; the result would be {y.dtype}"
            raise DtypeError(
                f"{self.name}: the inputs' dtypes do not fit each other{result}\n"
                "  rule : all floating inputs share one dtype, and so does the result; bare Python numbers adapt\n"
                f"{self._listing(inputs)}\n  hint : x.to(dtype=...) converts"
            )

    def _explain(self, error, inputs):
        """Raise the error again naming the operation, its rule and all inputs; a ShapeError if it has no kind."""
        if len({x.device for x in inputs}) > 1:
            raise DeviceError(
                f"{self.name}: the inputs are on different devices\n"
                f"{self._listing(inputs)}\n  hint : x.to('cuda') moves a tensor"
            ) from error
        if isinstance(error, TypeError):
            self._check_dtypes(inputs, None)  # NumPy does not mix bfloat16 and float16
        else:
            kind = type(error) if isinstance(error, TinygradError) else ShapeError
            message, *hint = str(error).split("\n")
            lines = [f"{self.name}: {message}", f"  rule : {self.signature}", self._listing(inputs), *hint]
            raise kind("\n".join(lines)) from error

    def _listing(self, inputs):
        """One line an input: its name in the rule, shape, dtype, device and origin."""
        names = []
        for p in inspect.signature(self.rule).parameters.values():
            names += [f"{p.name}[{i}]" for i in range(len(inputs))] if p.kind is p.VAR_POSITIONAL else [p.name]
        return "\n".join(f"  {name:<5}: {x.describe()}" for name, x in zip(names, inputs, strict=False))


op = Op


def half_in_float32(rule):
    """Decorator, below @op: half precision is computed with in float32; value and gradients are rounded once.

    For rules of more than one step, where each would add its rounding, and for those in which a library leaves half
    precision by itself: NumPy and CuPy turn bfloat16 times a Python float into float32, CuPy's `where` does, too.
    """

    @functools.wraps(rule)
    def rounding(*inputs, **options):
        for x in inputs:
            if x is not None and x.dtype.itemsize == 2 and is_floating(x.dtype):
                return _rounded(rule, x.dtype, inputs, options)
        return rule(*inputs, **options)

    return rounding


def _rounded(rule, dtype, inputs, options):
    """The rule on float32 copies of what is half precision: value, and way back, in this dtype."""
    shapes = [x.shape for x in inputs if x is not None]  # an absent input has no gradient
    y, backward = rule(*(x if x is None else x.astype(wide(x.dtype), copy=False) for x in inputs), **options)

    def trimmed(x):
        return x.astype(dtype, copy=False) if x.dtype == np.float32 else x  # another is a mistake to be told

    def finished(dx, shape):
        if callable(dx):
            return lambda: finished(dx(), shape)
        return dx if dx is None else trimmed(unbroadcast(dx, shape))  # added up before it is rounded

    def rounded_backward(dy):
        dxs = backward(dy.astype(wide(dy.dtype), copy=False))
        return tuple(finished(dx, shape) for dx, shape in zip(dxs, shapes, strict=True))

    return trimmed(y), rounded_backward


def _tensors(inputs):
    """Arrays and numbers among the inputs as tensors; numbers take after the first floating tensor or array, if any."""
    arrays = [as_array(x) for x in inputs if hasattr(x, "dtype") and not isinstance(x, np.generic)]
    like = next((x for x in arrays if is_floating(x.dtype)), arrays[0] if arrays else None)
    return [x if isinstance(x, Tensor) else Tensor.of(as_array(x, like)) for x in inputs]
