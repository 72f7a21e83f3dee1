"""GPT: a decoder-only transformer. Token ids in, for each position the logits of the next token out.

B batch, T time, C channels, V vocabulary.
"""

import math

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.nn.attention import CausalSelfAttention
from tinygrad_lm.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinygrad_lm.nn.mlp import MLP
from tinygrad_lm.nn.module import Module


class GPT(Module):
    """GPT(config, seed=0, dtype=float32, device="cpu"), with initial weights as GPT-2's.

    `model(tokens)` -> logits. `model.parameters` holds all weights and gradients by name (nn/module.py).
    """

    def __init__(self, config, seed=0, dtype=np.float32, device="cpu"):
        self.config = config
        C, V = config.n_embd, config.vocab_size
        self.wte = Embedding(V, C)
        self.wpe = Embedding(config.block_size, C) if config.position == "learned" else None
        self.dropout = Dropout(config.dropout)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = norm(config)
        self.lm_head = None if config.tied else Linear(C, V, bias=False, std=0.0 if config.zero_init else 0.02)
        self.initialize(seed, dtype, device)

    def __call__(self, tokens, noise=None, past=None):
        """tokens: integers (B, T) -> logits (B, T, V).

        noise: see Dropout; None outside training. past: for generation, one Past a block (models/generate.py); then
        tokens are those that follow it, and T counts both.
        """
        start = past[0].length if past else 0
        if tokens.ndim != 2 or not 0 < tokens.shape[1] <= self.config.block_size - start:
            raise ShapeError(
                f"GPT: tokens of shape {tokens.shape}" + f" after {start} others" * bool(past) + "\n"
                f"  rule : (B, T) with 1 <= T <= block_size = {self.config.block_size}\n"
                "  hint : tokens[:, -block_size:] are the last that fit"
            )
        x = self.wte(tokens)  # (B, T, C)
        if self.wpe is not None:
            x = x + self.wpe.weight[start : start + tokens.shape[1]]
        x = self.dropout(x, noise)
        for i, block in enumerate(self.h):
            if self.config.recompute and not past:
                x = ops.checkpoint(x, function=lambda x, block=block: block(x, noise))
            else:
                x = block(x, noise, past[i] if past else None)
        x = self.ln_f(x)
        logits = ops.linear(x, self.wte.weight.T) if self.lm_head is None else self.lm_head(x)  # (B, T, V)
        if self.config.softcap:  # Gemma Team 2024, "Gemma 2", section 2
            logits = self.config.softcap * ops.tanh(logits / self.config.softcap)
        return logits


class Block(Module):
    """x + attention, then x + MLP, each on normalised input: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        # Every block adds twice to the residual stream; GPT-2 shrinks what it adds so that the sum keeps its size.
        out_std = 0.0 if config.zero_init else 0.02 / math.sqrt(2 * config.n_layer)
        self.ln_1 = norm(config)
        self.attn = CausalSelfAttention(config, out_std)
        self.ln_2 = norm(config)
        self.mlp = MLP(config, out_std)

    def __call__(self, x, noise=None, past=None):
        x = x + self.attn(self.ln_1(x), noise, past)
        return x + self.mlp(self.ln_2(x), noise)


def norm(config):
    return RMSNorm() if config.norm == "rms" else LayerNorm(config.n_embd, config.bias)
