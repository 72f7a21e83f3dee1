"""Normalisation over the last axis, the channels: the page's layer norm, and the RMS norm of later models."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ShapeError


@op
def layer_norm(x, w=None, b=None, *, eps=1e-5):
    """y = x̂ w + b,  x̂ = (x − μ)/σ        dx = (g − mean g − x̂ mean(g x̂))/σ with g = dy w,  dw = Σ dy x̂,  db = Σ dy

    (..., C)[, (C,)[, (C,)]] -> (..., C)

    μ and σ = √(mean (x − μ)² + eps) over the C channels (Ba et al. 2016). Where from: x̂ does not change when a
    constant is added to x, nor (but for eps) when x is scaled; so what g has along the directions 1 and x̂ is lost in
    the backward pass: the two means take it out.
    """
    check_channels(x, w, b)
    xp = array_module(x)
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / xp.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    xhat = centred * inverse
    y = xhat if w is None else xhat * w
    y = y if b is None else y + b
    given = 1 + (w is not None) + (b is not None)  # so many inputs

    def backward(dy):
        g = dy if w is None else dy * w
        dx = inverse * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).mean(-1, keepdims=True))
        return (dx, None if w is None else dy * xhat, dy)[:given]

    return y, backward


@op
def rms_norm(x, w=None, *, eps=1e-6):
    """y = x̂ w,  x̂ = x/ρ        dx = (g − x̂ mean(g x̂))/ρ with g = dy w,  dw = Σ dy x̂

    (..., C)[, (C,)] -> (..., C)

    ρ = √(mean x² + eps) over the C channels. Zhang and Sennrich 2019, "Root mean square layer normalization".
    """
    check_channels(x, w)
    xp = array_module(x)
    inverse = 1 / xp.sqrt((x * x).mean(-1, keepdims=True) + eps)
    xhat = x * inverse
    y = xhat if w is None else xhat * w

    def backward(dy):
        g = dy if w is None else dy * w
        dx = inverse * (g - xhat * (g * xhat).mean(-1, keepdims=True))
        return (dx,) if w is None else (dx, dy * xhat)

    return y, backward


def check_channels(x, *weights):
    """Weights and biases have one entry a channel."""
    for p in weights:
        if p is not None and p.shape != x.shape[-1:]:
            raise ShapeError(f"a weight of shape {p.shape}; expected one entry for each of {x.shape[-1:]} channels")
