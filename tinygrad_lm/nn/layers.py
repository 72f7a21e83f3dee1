"""The small layers. B batch, T time, C channels, V vocabulary."""

from tinygrad_lm import ops
from tinygrad_lm.nn.module import Module, Parameter


class Linear(Module):
    """y = x w + b: (..., in) -> (..., out); weight (in, out), bias (out,)."""

    def __init__(self, n_in, n_out, bias=True, std=0.02):
        self.weight = Parameter(n_in, n_out, std=std)
        self.bias = Parameter(n_out) if bias else None

    def __call__(self, x):
        return ops.linear(x, self.weight) if self.bias is None else ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """Token ids to their rows of the table: (...) -> (..., C); weight (V, C)."""

    def __init__(self, n_tokens, n_channels, std=0.02):
        self.weight = Parameter(n_tokens, n_channels, std=std)

    def __call__(self, ids):
        return ops.embedding(self.weight, ids)


class LayerNorm(Module):
    """Each position's channels to mean 0 and variance 1, then a gain and a bias: (..., C) -> (..., C)."""

    def __init__(self, n_channels, bias=True):
        self.weight = Parameter(n_channels, mean=1.0)
        self.bias = Parameter(n_channels) if bias else None

    def __call__(self, x):
        return ops.layer_norm(x, self.weight) if self.bias is None else ops.layer_norm(x, self.weight, self.bias)


class RMSNorm(Module):
    """Each position's channels to mean square 1: (..., C) -> (..., C).

    Without a gain: the matrix that follows can learn one.
    """

    def __call__(self, x):
        return ops.rms_norm(x)


class Dropout(Module):
    """Entries set to zero with probability p while training.

    `noise` is (seed, step, ...), the counters of `backend.random`, or None outside training: then y = x.
    """

    def __init__(self, p):
        self.p = p

    def __call__(self, x, noise):
        return ops.dropout(x, p=self.p, key=self.key(noise)) if self.p and noise else x

    def key(self, noise):
        """The noise of this place in the network."""
        seed, *counter = noise
        return seed, f"dropout/{self.name}", *counter
