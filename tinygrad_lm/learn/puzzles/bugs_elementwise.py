"""Find the bug: arithmetic and activations. See bugs.py."""

import math

import numpy as np

from tinygrad_lm.learn.puzzles.bugs import bug_of, value
from tinygrad_lm.ops.activation import erf
from tinygrad_lm.ops.elementwise import logistic

# ---- arithmetic


@bug_of("subtract", "Which way does y go when b grows?")
def subtract_with_a_plus(a, b):
    """Both inputs are passed the gradient, as in `add`; but y falls as b grows."""
    return a - b, lambda dy: (dy, dy)


@bug_of("multiply", "With b = 100, how far does y move when a moves by 1?")
def product_rule_with_each_its_own_factor(a, b):
    """da belongs to b, not to a."""
    return a * b, lambda dy: (dy * a, dy * b)


@bug_of("divide", "Write y as a b⁻¹ and differentiate by b. What if b is 1?")
def quotient_with_one_division_too_few(a, b):
    """d(a/b)/db is −a/b², which is −y/b and not −y."""
    return a / b, lambda dy: (dy / b, -dy * a / b)


@bug_of("power", "Try b = 1, where y is a: how far does y move when a moves by 1?")
def power_with_the_exponent_not_lowered(a, b):
    """b aᵇ, for b aᵇ⁻¹."""
    y = a**b
    return y, lambda dy: (dy * b * y, dy * y * np.log(a))


@bug_of("power", "How many inputs have a gradient?")
def power_of_a_constant_exponent(a, b):
    """Right for x², where nobody asks for the exponent's gradient."""
    return a**b, lambda dy: (dy * b * a ** (b - 1), None)


@bug_of("sqrt", "Write y as a power of x.")
def sqrt_without_the_two(x):
    """d√x/dx is 1/2√x."""
    y = np.sqrt(x)
    return y, lambda dy: (dy / y,)


@bug_of("log", "At x = 1 the logarithm is 0. Is its slope infinite there?")
def log_divided_by_its_value(x):
    """1/y, where 1/x belongs; of exp the derivative is the value, and so one writes y."""
    y = np.log(x)
    return y, lambda dy: (dy / y,)


@bug_of("tanh", "tanh(−x) = −tanh(x), so its slope is the same at −x and x. Is this one?")
def tanh_without_the_square(x):
    """1 − y, for 1 − y²."""
    y = np.tanh(x)
    return y, lambda dy: (dy * (1 - y),)


@bug_of("sigmoid", "y only ever rises. Can its slope be negative?")
def sigmoid_at_the_input(x):
    """y (1 − y) with x where y belongs: the derivative is easier in the output than in the input."""
    return logistic(x), lambda dy: (dy * x * (1 - x),)


@bug_of("where", "How far does y move when the branch that was not taken moves?")
def where_without_its_condition(condition, a, b):
    """Both branches get all of dy, though only one was taken."""
    return np.where(condition, a, b), lambda dy: (None, dy, dy)


@bug_of("maximum", "All is well while a and b differ. And where they are equal, who gets dy?")
def maximum_that_gives_ties_to_nobody(a, b):
    """a > b and b > a look like all there is; at a tie both are false and dy is lost."""
    return np.where(a.real > b.real, a, b), lambda dy: (dy * (a > b), dy * (b > a))


# ---- activations


@bug_of("relu", "Is the gradient of −y minus the gradient of y?")
def relu_masked_by_the_gradient(x):
    """Which entries pass is decided on the way forth; dy has a sign of its own. (As in guided backpropagation.)"""
    return x * (x.real > 0), lambda dy: (dy * (dy.real > 0),)


@bug_of("silu", "y is a product of two factors, and both depend on x. How many terms has its derivative?")
def silu_with_the_sigmoids_derivative(x):
    """x σ′ is one term of two; the product rule's other one is σ."""
    s = logistic(x)
    return x * s, lambda dy: (dy * s * (1 - s) * x,)


@bug_of("gelu", "Count digits: up to which one do the two gradients agree? What has that accuracy?")
def gelu_with_the_tanh_forms_derivative(x):
    """The two forms differ by less than 1e-3, their derivatives too: enough to pass a check at 1e-3."""
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * x * (1 + 0.044715 * x * x))

    def backward(dy):
        slope = c * (1 + 3 * 0.044715 * x * x)
        return (dy * ((1 + t) + x * (1 - t * t) * slope) / 2,)

    return x * (1 + erf(x / math.sqrt(2))) / 2, backward


@bug_of("gelu", "y is a product of two factors, and both depend on x. How many terms has its derivative?")
def gelu_without_the_density(x):
    """Φ alone, as if the gate did not depend on x."""
    cumulative = (1 + erf(x / math.sqrt(2))) / 2
    return x * cumulative, lambda dy: (dy * cumulative,)


@bug_of("gelu_tanh", "Count digits: up to which one do the two gradients agree? What has that accuracy?")
def gelu_tanh_with_the_exact_forms_derivative(x):
    """Φ + x φ is the derivative of what the tanh stands in for, not of the value that was computed."""
    cumulative = (1 + erf(x / math.sqrt(2))) / 2
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return value("gelu_tanh", x), lambda dy: (dy * (cumulative + x * density),)
