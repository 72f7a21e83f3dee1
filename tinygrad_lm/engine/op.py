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
that computes it, for one that costs much and may not be wanted, perhaps with a method `plus(total, out)` that adds it
to another gradient in the same pass. What `backward` mentions is what is kept alive. Rules neither change their inputs
nor dy, for other operations hold those arrays too. They are written for any floating dtype, complex128 included, with
which the tests differentiate them numerically: so comparisons are made on `.real`.

What this adds to examples/minimal.py: numbers, arrays and lists as inputs; gradients that are computed only if they are
wanted; faster implementations, half precision and observers; errors that name the operation, its rule and its inputs.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, ParamSpec

import numpy as np

from tinygrad_lm.backend import FLOAT32, is_floating
from tinygrad_lm.engine import explain, precision
from tinygrad_lm.engine.graph import Node
from tinygrad_lm.engine.observe import observers, thread
from tinygrad_lm.engine.replaceable import Replaceable
from tinygrad_lm.engine.tensor import Tensor, operations
from tinygrad_lm.engine.variable import as_array, recorded

P = ParamSpec("P")  # a rule's parameters are its operation's, so that editors know them


class Op(Replaceable, Generic[P]):
    """An operation on tensors. Called, it computes the rule's value and records a node.

    name       the rule's name, under which Op.registry lists it
    rule       the definition; `run` calls it, or an implementation in its place
    formula    the first line of the docstring: value and derivative in the field's notation
    signature  the next line: the shapes that fit; what a docstring does not say is the rule's own head
    """

    registry = vars(operations)

    def __init__(self, rule: Callable[P, Any]):
        super().__init__(rule)
        self.name, self.rule = rule.__name__, rule
        lines = [line for line in (inspect.getdoc(rule) or "").splitlines() if line]
        lines += [f"{self.name}{inspect.signature(rule)}"] * 2
        self.formula, self.signature = lines[0], lines[1]
        self.parameters = [p for p in inspect.signature(rule).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        Op.registry[self.name] = self
        if (method := vars(Tensor).get(self.name)) and not method.__doc__:
            method.__doc__ = rule.__doc__  # so that help(x.exp) shows the formula

    def __call__(self, *inputs: P.args, **options: P.kwargs) -> Tensor:
        tensors: Any = inputs
        try:
            parents = [x.node for x in tensors]
            arrays = [x.data for x in tensors]
        except AttributeError:  # a bare array or number is among them; arrays have .data, too, but no .node
            tensors = self.tensors(inputs)
            arrays = [x.data for x in tensors]
            parents = [x.node for x in tensors]
        for observer in observers:
            observer.before(self)
        try:
            y, backward = self.chosen(arrays)(*arrays, **options)
        except (ValueError, IndexError, TypeError) as error:
            explain.failure(self, error, tensors, options)
        dtype = y.dtype
        for x in arrays:
            if x.dtype is not dtype and (len(arrays) > 1 or self.name not in precision.MOVES):
                explain.check_dtypes(self, tensors, y)
                break
        if not y.ndim:
            y = as_array(y)  # NumPy's reductions give scalars of their own kind
        wanted = thread.recording and any(parents)
        result = Tensor.of(y, Node(self, parents, backward, y) if wanted else None)
        for observer in observers:
            observer.operation(self, tensors, options, result)
        return result

    def run(self, *arrays, **options):
        """Value and gradient function on arrays: the rule's, or those of an implementation in its place."""
        return self.chosen(arrays)(*arrays, **options)

    def chosen(self, arrays):
        """What computes with arrays like these: the rule, or what stands in its place."""
        for x in arrays:
            if x.dtype is not FLOAT32 and precision.is_half(x.dtype):
                return partial(precision.run_in_half, self)
        return super().__call__ if Replaceable.enabled and self.implementations else self.rule

    def tensors(self, inputs):
        """The inputs as tensors: numbers adapt to the first floating tensor or array; lists of tensors are stacked."""
        many = self.parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
        if many and len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
            inputs = inputs[0]  # concat([a, b]) as concat(a, b)
        inputs = [operations.stack(*x) if isinstance(x, (list, tuple)) and recorded(x) else x for x in inputs]
        arrays = [as_array(x) for x in inputs if hasattr(x, "dtype") and not isinstance(x, np.generic)]
        like = next((x for x in arrays if is_floating(x.dtype)), arrays[0] if arrays else None)
        return [x if isinstance(x, Tensor) else Tensor.of(as_array(x, like)) for x in inputs]

    def input_names(self, n):
        """The names of the rule's first n inputs; those of *xs are xs[0], xs[1], …"""
        names = []
        for p in self.parameters:
            names += [f"{p.name}[{i}]" for i in range(n)] if p.kind is p.VAR_POSITIONAL else [p.name]
        return names[:n]

    def __repr__(self):
        return f"<op {self.name}: {self.formula}>"


op = Op
