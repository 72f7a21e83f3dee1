"""GPT: a decoder-only transformer. Token ids in, for each position the logits of the next token out.

What this adds to examples/minimal.py: the choices of config.py, with which GPT-2, Llama and Qwen3 are the same class.

B batch, T time, C channels, V vocabulary.
"""

import math
from functools import partial

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.backend import Array, DTypeLike, array_module, dtype_of, wide
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ShapeError
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.nn.attention import CausalSelfAttention
from tinygrad_lm.nn.context import NONE, Context, computing
from tinygrad_lm.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinygrad_lm.nn.mlp import MLP
from tinygrad_lm.nn.module import Module


class GPT(Module):
    """GPT(config, seed=0, dtype=float32, device="cpu"), with initial weights as GPT-2's.

    `model(tokens)` -> logits. `model.flat` holds all weights and gradients by name (nn/flat.py). Seed None: all weights
    are zero, and wait to be loaded.
    dtype: what is computed in, also by name; for half precision the weights are float32 (engine/precision.py).
    """

    def __init__(self, config: GPTConfig, seed: int | None = 0, dtype: DTypeLike = np.float32, device: str = "cpu"):
        self.config, self.dtype = config, dtype_of(dtype)
        self.computing = partial(computing, self.dtype, device)
        C, V = config.n_embd, config.vocab_size
        self.wte = Embedding(V, C)
        self.wpe = Embedding(config.block_size, C) if config.position == "learned" else None
        self.dropout = Dropout(config.dropout)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = norm(config)
        self.lm_head = None if config.tied else Linear(C, V, bias=False, std=0.0 if config.zero_init else 0.02)
        self.initialize(seed, wide(self.dtype), device)

    def forward(self, tokens: Array, context: Context = NONE) -> Tensor:
        """tokens: integers (B, T) -> logits (B, T, V). context: nn/context.py."""
        return self.logits(self.features(tokens, context))

    def features(self, tokens: Array, context: Context = NONE) -> Tensor:
        """tokens: integers (B, T) -> what is known of the text at each position, (B, T, C).

        Positions count on over the documents of a window: rotary ones are relative, so a document is as it would be
        alone, while learned ones say where in the window it stands.
        """
        before = [cache.length for cache in context.cache for _ in range(cache.rows)]  # of each row
        x = self.wte(tokens)  # (B, T, C), whether they are an array, lists or a tensor
        fits = x.ndim == 3 and 0 < x.shape[1] <= self.config.block_size - max(before, default=0)
        if not fits or len(before) not in (0, len(x)):
            after = f" after {len(before), max(before)} in the cache" if before else ""
            raise ShapeError(
                f"GPT: tokens of shape {x.shape[:-1]}{after}\n"
                f"  rule : (B, T) with 1 <= T <= block_size = {self.config.block_size}\n"
                "  hint : tokens[:, -block_size:] are the last that fit; [tokens] is a batch of one text"
            )
        if self.wpe is not None:
            xp = array_module(x.data)
            positions = xp.arange(x.shape[1])[None]  # (1, T)
            x = x + self.wpe(positions + xp.array(before)[:, None] if before else positions)
        with self.computing() as dtype:
            x = self.dropout(x.to(dtype=dtype), context)
            for block in self.h:
                x = block(x, context)
            return self.ln_f(x)

    def logits(self, x: Tensor) -> Tensor:
        """The prediction from features: (..., C) -> (..., V)."""
        with self.computing():
            logits = ops.linear(x, self.wte.weight.T) if self.lm_head is None else self.lm_head(x)
        if self.config.softcap:  # Gemma Team 2024, "Gemma 2", section 2
            logits = self.config.softcap * ops.tanh(logits / self.config.softcap)
        return logits

    def loss(self, tokens: Array, targets: Array, context: Context = NONE) -> Tensor:
        """Mean cross-entropy, in nats, of targets (B, T), the tokens that come next. context: as in a call."""
        return self.judged(ops.cross_entropy, ops.linear_cross_entropy, self.features(tokens, context), targets)

    def log_probability(self, tokens: Array, targets: Array, context: Context = NONE) -> Tensor:
        """log P of each target, in nats: (B, T), 0 where it is ignored (ops/cross_entropy.py). context: as in a call.

        An entry has the same bits whether it is recorded or not.
        """
        return self.judged(ops.log_probability, ops.linear_log_probability, self.features(tokens, context), targets)

    def judged(self, operation, with_linear, x, targets):
        """operation(logits of x, targets); where nothing comes between them, the last product and it are one operation.

        That one computes the gradient of its weight unasked, so where the weight is frozen they stay two.
        """
        w = self.wte.weight if self.lm_head is None else self.lm_head.weight
        if self.config.softcap or not w.requires_grad:
            return operation(self.logits(x), targets)
        with self.computing():
            return with_linear(x, w.T if self.lm_head is None else w, targets)


class Block(Module):
    """x + attention, then x + MLP, each on normalised input: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: GPTConfig):
        # Every block adds twice to the residual stream; GPT-2 shrinks what it adds so that the sum keeps its size.
        out_std = 0.0 if config.zero_init else 0.02 / math.sqrt(2 * config.n_layer)
        self.ln_1 = norm(config)
        self.attn = CausalSelfAttention(config, out_std)
        self.ln_2 = norm(config)
        self.mlp = MLP(config, out_std)

    def forward(self, x: Tensor, context: Context = NONE) -> Tensor:
        x = x + self.attn(self.ln_1(x), context)
        return x + self.mlp(self.ln_2(x), context)


def norm(config: GPTConfig) -> LayerNorm | RMSNorm:
    """The normalisation layer that a configuration names."""
    if config.norm == "rms":
        return RMSNorm(config.n_embd, config.gain, config.norm_eps or 1e-6)
    return LayerNorm(config.n_embd, config.bias, config.norm_eps or 1e-5)
