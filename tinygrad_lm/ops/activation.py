"""Nonlinearities. The page has one of them, GPT-2's."""

import math

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op


@op
def tanh(x):
    """y = tanh x        dx = dy (1 − y²)

    x: any shape
    """
    y = array_module(x).tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


@op
def sigmoid(x):
    """y = 1 / (1 + exp −x)        dx = dy y (1 − y)

    x: any shape
    """
    y = logistic(x)
    return y, lambda dy: (dy * y * (1 - y),)


def logistic(x):
    """1 / (1 + exp −x) of an array, by the one of its two forms whose exponential cannot overflow."""
    xp = array_module(x)
    positive = x.real > 0
    e = xp.exp(xp.where(positive, -x, x))
    return xp.where(positive, xp.ones_like(e), e) / (1 + e)


@op
def relu(x):
    """y = max(x, 0)        dx = dy [x > 0]

    x: any shape
    """
    xp, positive = array_module(x), x.real > 0
    return xp.maximum(x, 0), lambda dy: (xp.where(positive, dy, 0),)


@op
def relu_squared(x):
    """y = max(x, 0)²        dx = 2 dy max(x, 0)

    x: any shape. So et al. 2021, "Primer: Searching for efficient transformers".
    """
    xp = array_module(x)
    r = xp.maximum(x, 0)
    return r * r, lambda dy: (2 * xp.where(r.real > 0, dy, 0) * r,)


@op
def silu(x):
    """y = x σ(x)        dx = dy (σ + y (1 − σ))

    x: any shape; σ(x) = 1 / (1 + exp −x). Also called swish.
    """
    s = logistic(x)
    y = x * s
    return y, lambda dy: (dy * (s + y * (1 - s)),)


@op
def gelu(x):
    """y = x Φ(x)        dx = dy (Φ + x φ)

    x: any shape; Φ(x) = (1 + erf(x/√2)) / 2 is the normal distribution's cumulative function and φ its density.
    Hendrycks and Gimpel 2016, "Gaussian error linear units".
    """
    xp = array_module(x)
    cumulative = (1 + erf(x / math.sqrt(2))) / 2

    def backward(dy):
        density = xp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return (dy * (cumulative + x * density),)

    return x * cumulative, backward


@op
def gelu_tanh(x):
    """y = x (1 + t)/2,  t = tanh u,  u = √(2/π) (x + 0.044715 x³)        dx = dy ((1 + t) + x (1 − t²) u′)/2

    x: any shape. The approximation that GPT-2 was trained with (Hendrycks and Gimpel 2016, section 2).
    """
    xp = array_module(x)
    c = math.sqrt(2 / math.pi)
    t = xp.tanh(c * x * (1 + 0.044715 * x * x))

    def backward(dy):
        slope = c * (1 + 3 * 0.044715 * x * x)
        return (dy * ((1 + t) + x * (1 - t * t) * slope) / 2,)

    return x * (1 + t) / 2, backward


def erf(x):
    """The error function 2/√π ∫₀ˣ exp −t² dt, for which NumPy has no name.

    erf x = 2/√π exp(−x²) Σₙ 2ⁿ x²ⁿ⁺¹ / (1·3·…·(2n+1))    (Abramowitz and Stegun 1964, 7.1.6)

    All terms have x's sign, so none cancels. Beyond |x| = 6 the value is ±1 to double precision; up to there the terms
    past the 128th are below it.
    """
    xp = array_module(x)
    sign = xp.sign(x.real).astype(x.dtype)
    near = abs(x.real) < 6
    x = xp.where(near, x, sign)
    square, term = 2 * x * x, x
    total = term.copy()
    for n in range(1, 128):
        term = term * square / (2 * n + 1)
        total += term
    return xp.where(near, 2 / math.sqrt(math.pi) * xp.exp(-x * x) * total, sign)
