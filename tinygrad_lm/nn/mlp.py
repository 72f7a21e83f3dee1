"""The MLP of a transformer block: where each position thinks on its own."""

from tinygrad_lm import ops
from tinygrad_lm.nn.layers import Dropout, Linear
from tinygrad_lm.nn.module import Module

ACTIVATIONS = {"gelu": ops.gelu, "gelu_tanh": ops.gelu_tanh, "relu_squared": ops.relu_squared, "silu": ops.silu}


class MLP(Module):
    """(B, T, C) -> (B, T, 4C) -> (B, T, C)."""

    def __init__(self, config, out_std):
        C = config.n_embd
        self.c_fc = Linear(C, 4 * C, config.bias)
        self.c_proj = Linear(4 * C, C, config.bias, std=out_std)
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = Dropout(config.dropout)

    def __call__(self, x, noise=None):
        return self.dropout(self.c_proj(self.activation(self.c_fc(x))), noise)
