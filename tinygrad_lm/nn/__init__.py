"""The parts of a network, `from tinygrad_lm import nn`. On the page they are lines of the model."""

from tinygrad_lm.nn.attention import CausalSelfAttention
from tinygrad_lm.nn.context import Context
from tinygrad_lm.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinygrad_lm.nn.mlp import MLP
from tinygrad_lm.nn.module import Module, Parameter, freeze

__all__ = [
    "MLP", "CausalSelfAttention", "Context", "Dropout", "Embedding", "LayerNorm", "Linear", "Module", "Parameter",
    "RMSNorm", "freeze",
]  # fmt: skip
