"""Softmax: any numbers in, a probability distribution out. A helper on the page; here an operation with a gradient."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op


@op
def softmax(x, *, axis=-1):
    """y = exp x / Σ exp x        dx = y (dy − Σ y dy)

    x: any shape with at least one entry along `axis`

    Where from: ∂y_i/∂x_j = y_i ([i = j] − y_j), so dx_j = Σ_i dy_i y_i ([i = j] − y_j) = y_j (dy_j − Σ_i y_i dy_i).
    The y_i sum to 1 whatever x is, so dx sums to 0.
    """
    xp = array_module(x)
    e = xp.exp(x - x.real.max(axis, keepdims=True))  # the shift cancels; it prevents overflow
    y = e / e.sum(axis, keepdims=True)

    def backward(dy):
        return (y * (dy - (dy * y).sum(axis, keepdims=True)),)

    return y, backward


@op
def log_softmax(x, *, axis=-1):
    """y = x − log Σ exp x        dx = dy − exp(y) Σ dy

    x: any shape with at least one entry along `axis`
    """
    xp = array_module(x)
    shifted = x - x.real.max(axis, keepdims=True)
    y = shifted - xp.log(xp.exp(shifted).sum(axis, keepdims=True))

    def backward(dy):
        return (dy - xp.exp(y) * dy.sum(axis, keepdims=True),)

    return y, backward
