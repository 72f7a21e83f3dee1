"""The small layers. B batch, T time, C channels, V vocabulary."""

from tinygrad_lm import ops
from tinygrad_lm.nn.module import Module, Parameter

ALPHA = 32  # what adapters of any rank are scaled by (Hu et al. 2021, table 11, for GPT-2)


class Linear(Module):
    """y = x w + b: (..., in) -> (..., out); weight (in, out), bias (out,).

    With lora = r > 0 an adapter is added, y + α/r (x A) B with A (in, r) and B (r, out) starting at zero, which can
    learn in place of the weight (Hu et al. 2021, "LoRA: Low-rank adaptation of large language models", equation 3).
    """

    def __init__(self, n_in, n_out, bias=True, std=0.02, lora=0):
        self.weight = Parameter(n_in, n_out, std=std)
        self.bias = Parameter(n_out) if bias else None
        self.lora_a = Parameter(n_in, lora, std=n_in**-0.5) if lora else None
        self.lora_b = Parameter(lora, n_out) if lora else None

    def __call__(self, x):
        y = ops.linear(x, self.weight) if self.bias is None else ops.linear(x, self.weight, self.bias)
        if self.lora_a is not None:  # scaled where there are few channels
            y = y + ops.linear(self.scale * ops.linear(x, self.lora_a), self.lora_b)
        return y

    @property
    def scale(self):
        """α/r of the adapter."""
        return ALPHA / len(self.lora_b)


class Embedding(Module):
    """Token ids to their rows of the table: (...) -> (..., C); weight (V, C)."""

    def __init__(self, n_tokens, n_channels, std=0.02):
        self.weight = Parameter(n_tokens, n_channels, std=std)

    def __call__(self, ids):
        return ops.embedding(self.weight, ids)


class LayerNorm(Module):
    """Each position's channels to mean 0 and variance 1, then a gain and a bias: (..., C) -> (..., C)."""

    def __init__(self, n_channels, bias=True, eps=0.0):
        self.weight = Parameter(n_channels, mean=1.0)
        self.bias = Parameter(n_channels) if bias else None
        self.eps = {"eps": eps} if eps else {}

    def __call__(self, x):
        weights = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return ops.layer_norm(x, *weights, **self.eps)


class RMSNorm(Module):
    """Each position's channels to mean square 1, then a gain if there is one: (..., C) -> (..., C).

    Before a matrix no gain is needed: the matrix can learn it.
    """

    def __init__(self, n_channels, gain=False, eps=0.0):
        self.weight = Parameter(n_channels, mean=1.0) if gain else None
        self.eps = {"eps": eps} if eps else {}

    def __call__(self, x):
        return ops.rms_norm(x, **self.eps) if self.weight is None else ops.rms_norm(x, self.weight, **self.eps)


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
