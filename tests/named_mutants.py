"""Find the bug: rules as a learner writes them, each with one mistake in it.

The name says what is wrong, the docstring why it looks right. All are caught; test_mutants.py says by which check.
Where only the way back is wrong, the value is taken from the rule itself.
"""

import math

import numpy as np

from tinygrad_lm.engine.op import Op
from tinygrad_lm.ops.activation import erf
from tinygrad_lm.ops.elementwise import logistic
from tinygrad_lm.ops.reduce import spread

MUTANTS = {}


def mutant_of(name):
    """Register a wrong rule under the name of the operation that it is meant to be."""

    def register(rule):
        MUTANTS[rule.__name__.replace("_", " ")] = (name, rule)
        return rule

    return register


def value(name, *inputs, **options):
    return Op.registry[name].rule(*inputs, **options)[0]


# ---- arithmetic


@mutant_of("subtract")
def subtract_with_a_plus(a, b):
    """Both inputs are passed the gradient, as in `add`; but y falls as b grows."""
    return a - b, lambda dy: (dy, dy)


@mutant_of("multiply")
def product_rule_with_each_its_own_factor(a, b):
    """da belongs to b, not to a."""
    return a * b, lambda dy: (dy * a, dy * b)


@mutant_of("divide")
def quotient_with_one_division_too_few(a, b):
    """d(a/b)/db is −a/b², which is −y/b and not −y."""
    return a / b, lambda dy: (dy / b, -dy * a / b)


@mutant_of("power")
def power_with_the_exponent_not_lowered(a, b):
    """b aᵇ, for b aᵇ⁻¹."""
    y = a**b
    return y, lambda dy: (dy * b * y, dy * y * np.log(a))


@mutant_of("power")
def power_of_a_constant_exponent(a, b):
    """Right for x², where nobody asks for the exponent's gradient."""
    return a**b, lambda dy: (dy * b * a ** (b - 1), None)


@mutant_of("sqrt")
def sqrt_without_the_two(x):
    """d√x/dx is 1/2√x."""
    y = np.sqrt(x)
    return y, lambda dy: (dy / y,)


@mutant_of("log")
def log_divided_by_its_value(x):
    """1/y, where 1/x belongs; of exp the derivative is the value, and so one writes y."""
    y = np.log(x)
    return y, lambda dy: (dy / y,)


@mutant_of("tanh")
def tanh_without_the_square(x):
    """1 − y, for 1 − y²."""
    y = np.tanh(x)
    return y, lambda dy: (dy * (1 - y),)


@mutant_of("sigmoid")
def sigmoid_at_the_input(x):
    """y (1 − y) with x where y belongs: the derivative is easier in the output than in the input."""
    return logistic(x), lambda dy: (dy * x * (1 - x),)


@mutant_of("where")
def where_without_its_condition(condition, a, b):
    """Both branches get all of dy, though only one was taken."""
    return np.where(condition, a, b), lambda dy: (None, dy, dy)


# ---- activations


@mutant_of("relu")
def relu_masked_by_the_gradient(x):
    """Which entries pass is decided on the way forth; dy has a sign of its own. (As in guided backpropagation.)"""
    return x * (x.real > 0), lambda dy: (dy * (dy.real > 0),)


@mutant_of("silu")
def silu_with_the_sigmoids_derivative(x):
    """x is forgotten: the product rule has two terms."""
    s = logistic(x)
    return x * s, lambda dy: (dy * s * (1 - s) * x,)


@mutant_of("gelu")
def gelu_with_the_tanh_forms_derivative(x):
    """The two forms differ by less than 1e-3, their derivatives too: enough to pass a check at 1e-3."""
    return value("gelu", x), Op.registry["gelu_tanh"].rule(x)[1]


@mutant_of("gelu_tanh")
def gelu_tanh_with_the_exact_forms_derivative(x):
    return value("gelu_tanh", x), Op.registry["gelu"].rule(x)[1]


@mutant_of("gelu")
def gelu_without_the_density(x):
    """Φ alone, as if the gate did not depend on x."""
    cumulative = (1 + erf(x / math.sqrt(2))) / 2
    return x * cumulative, lambda dy: (dy * cumulative,)


# ---- reductions and shapes


@mutant_of("sum")
def sum_spread_without_its_axis(x, *, axis=None, keepdims=False):
    """Unless the axis is put back, a row is copied where a column belongs, wherever that happens to fit."""
    return x.sum(axis, keepdims=keepdims), lambda dy: (np.broadcast_to(dy, x.shape),)


@mutant_of("mean")
def mean_divided_by_the_size_of_the_result(x, *, axis=None, keepdims=False):
    """dy.size is how many means there are, not of how many numbers each is made."""
    shape = x.shape
    return x.mean(axis, keepdims=keepdims), lambda dy: (spread(dy / max(dy.size, 1), axis, shape, keepdims),)


@mutant_of("max")
def max_without_sharing_among_ties(x, *, axis=None, keepdims=False):
    """Each of the greatest gets all of dy; the gradient of a constant row is then as large as the row is long."""
    y = x.max(axis, keepdims=True)
    return value("max", x, axis=axis, keepdims=keepdims), lambda dy: (spread(dy, axis, x.shape, keepdims) * (x == y),)


@mutant_of("maximum")
def maximum_that_gives_ties_to_nobody(a, b):
    return np.where(a.real > b.real, a, b), lambda dy: (dy * (a > b), dy * (b > a))


@mutant_of("logsumexp")
def logsumexp_over_everything(x, *, axis=None, keepdims=False):
    """The softmax of the whole array, where that of each row belongs."""
    p = value("softmax", x, axis=tuple(range(x.ndim)))
    return value("logsumexp", x, axis=axis, keepdims=keepdims), lambda dy: (spread(dy, axis, x.shape, keepdims) * p,)


@mutant_of("transpose")
def transpose_by_the_same_axes(x, *, axes=None):
    """Right for two axes: a swap is its own inverse. A cycle of three is not."""
    return x.transpose(axes), lambda dy: (dy.transpose(axes),)


@mutant_of("getitem")
def getitem_assigned_not_added(x, *, index):
    """`dx[index] = dy`: of an entry that was taken twice only the last gradient stays."""
    shape = x.shape

    def backward(dy):
        dx = np.zeros(shape, dy.dtype)
        dx[index] = dy
        return (dx,)

    return x[index], backward


@mutant_of("concat")
def concat_split_evenly(*xs, axis=0):
    """Pieces of one length, as if all inputs had it."""
    ends = np.cumsum([xs[0].shape[axis]] * len(xs))[:-1]
    return np.concatenate(xs, axis), lambda dy: tuple(np.split(dy, ends, axis))


# ---- matrix products


@mutant_of("matmul")
def matmul_reshaped_not_transposed(a, b):
    """The shapes fit either way."""
    flipped = lambda x: x.reshape(*x.shape[:-2], x.shape[-1], x.shape[-2])
    return a @ b, lambda dy: (dy @ flipped(b), flipped(a) @ dy)


@mutant_of("linear")
def linear_with_its_weight_gradient_transposed(x, w, b=None):
    """dyᵀ x is (o, i), and is right where weights are stored as (out, in)."""
    rows, shape = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), x.shape

    def backward(dy):
        dy = dy.reshape(len(rows), w.shape[1])
        return ((dy @ w.T).reshape(shape), (dy.T @ rows).reshape(w.shape), dy)[: 2 if b is None else 3]

    return value("linear", *(p for p in (x, w, b) if p is not None)), backward


@mutant_of("linear")
def linear_with_its_bias_gradient_averaged(x, w, b=None):
    """The mean over the batch belongs to the loss, once."""
    y, right = Op.registry["linear"].rule(*(p for p in (x, w, b) if p is not None))

    def backward(dy):
        dx, dw, *db = right(dy)
        return dx, dw, *(g.mean(0) for g in db)

    return y, backward


@mutant_of("embedding")
def embedding_with_rows_overwritten(w, ids):
    """A token that occurs twice keeps only its last gradient."""
    return w[ids], lambda dy: (rows_overwritten(w.shape, ids, dy), None)


def rows_overwritten(shape, ids, dy):
    dw = np.zeros(shape, dy.dtype)
    dw[ids] = dy
    return dw
