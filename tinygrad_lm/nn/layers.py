"""The small layers; the page has their operations alone. B batch, T time, C channels, V vocabulary."""

from tinygrad_lm import ops
from tinygrad_lm.backend import Array
from tinygrad_lm.engine.observe import thread
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.nn.context import NONE, Context
from tinygrad_lm.nn.module import Module, Parameter


class Linear(Module):
    """y = x w + b: (..., in) -> (..., out); weight (in, out), bias (out,)."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True, std: float = 0.02):
        self.weight = Parameter(n_in, n_out, std=std)
        self.bias = Parameter(n_out) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight) if self.bias is None else ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """Token ids to their rows of the table: (...) -> (..., C); weight (V, C)."""

    def __init__(self, n_tokens: int, n_channels: int, std: float = 0.02):
        self.weight = Parameter(n_tokens, n_channels, std=std)

    def forward(self, ids: Array | Tensor) -> Tensor:
        return ops.embedding(self.weight, ids)


class LayerNorm(Module):
    """Each position's channels to mean 0 and variance 1, then a gain and a bias: (..., C) -> (..., C)."""

    def __init__(self, n_channels: int, bias: bool = True, eps: float = 1e-5):
        self.weight = Parameter(n_channels, mean=1.0)
        self.bias = Parameter(n_channels) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return ops.layer_norm(x, *weights, eps=self.eps)


class RMSNorm(Module):
    """Each position's channels to mean square 1, then a gain if there is one: (..., C) -> (..., C).

    Before a matrix no gain is needed: the matrix can learn it.
    """

    def __init__(self, n_channels: int, gain: bool = False, eps: float = 1e-6):
        self.weight = Parameter(n_channels, mean=1.0) if gain else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, eps=self.eps) if self.weight is None else ops.rms_norm(x, self.weight, eps=self.eps)


class Dropout(Module):
    """Entries set to zero with probability p while training: where the context has a key for random numbers.

    The mask is a function of the key and of the module's name, so each place in a network needs its own Dropout.
    """

    def __init__(self, p: float):
        self.p = p

    def forward(self, x: Tensor, context: Context = NONE) -> Tensor:
        return ops.dropout(x, **options) if (options := self.options(context)) else x

    def options(self, context: Context) -> dict:
        """{"p": …, "key": …} for an operation that drops entries; {} where none are dropped."""
        if not self.p:
            return {}
        if context.key and self.ready:
            seed, *counter = context.key
            return {"p": self.p, "key": (seed, f"dropout/{self.name}", *counter)}
        if thread.recording:
            raise ConfigError(
                f"dropout {self.name}: while gradients are recorded it needs an initialised model and a key\n"
                "  hint : model(x, nn.Context(key=(seed, step, 0))) trains, if forward passes the context on to it;\n"
                "         within no_grad(), without a key, nothing is dropped"
            )
        return {}
