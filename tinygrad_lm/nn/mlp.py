"""The MLP of a transformer block: where each position thinks on its own. The page's, and other activations, a gate."""

from tinygrad_lm import ops
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.nn.context import NONE, Context
from tinygrad_lm.nn.layers import Dropout, Linear
from tinygrad_lm.nn.module import Module

ACTIVATIONS = {op.name: op for op in (ops.gelu, ops.gelu_tanh, ops.relu, ops.relu_squared, ops.silu)}


class MLP(Module):
    """(B, T, C) -> (B, T, hidden) -> (B, T, C): c_proj(activation(c_fc x)), or c_proj(activation(c_gate x) · c_fc x).

    The gate: Shazeer 2020, "GLU variants improve transformer".
    """

    def __init__(self, config, out_std: float):
        C, hidden = config.n_embd, config.hidden
        self.c_gate = Linear(C, hidden, config.bias) if config.gated else None
        self.c_fc = Linear(C, hidden, config.bias)
        self.c_proj = Linear(hidden, C, config.bias, std=out_std)
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context = NONE) -> Tensor:
        h = self.activation(self.c_fc(x)) if self.c_gate is None else self.activation(self.c_gate(x)) * self.c_fc(x)
        return self.dropout(self.c_proj(h), context)
