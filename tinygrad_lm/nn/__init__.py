"""The parts of a network: `from tinygrad_lm import nn`."""

from tinygrad_lm.nn.attention import CausalSelfAttention
from tinygrad_lm.nn.context import Cache, Context
from tinygrad_lm.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinygrad_lm.nn.lora import lora, merge
from tinygrad_lm.nn.mlp import MLP
from tinygrad_lm.nn.module import Module, Parameter, freeze
from tinygrad_lm.nn.recomputed import recomputed

__all__ = [
    "MLP", "Cache", "CausalSelfAttention", "Context", "Dropout", "Embedding", "LayerNorm", "Linear", "Module",
    "Parameter", "RMSNorm", "freeze", "lora", "merge", "recomputed",
]  # fmt: skip
