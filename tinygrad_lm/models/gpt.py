"""GPT: a decoder-only transformer. Token ids in, for each position the logits of the next token out.

B batch, T time, C channels, V vocabulary.
"""

import math
from fnmatch import fnmatchcase

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.backend import array_module, to_device
from tinygrad_lm.errors import ConfigError, ShapeError
from tinygrad_lm.nn.attention import CausalSelfAttention
from tinygrad_lm.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinygrad_lm.nn.mlp import MLP
from tinygrad_lm.nn.module import Module


class GPT(Module):
    """GPT(config, seed=0, dtype=float32, device="cpu", frozen=()), with initial weights as GPT-2's.

    `model(tokens)` -> logits. `model.parameters` holds all weights and gradients by name (nn/module.py).
    dtype: also by name, as "float64". "bfloat16" computes with weights that are rounded from float32 ones, the masters,
    which are trained, saved and loaded; gradients are float32, too.
    frozen: patterns of names, such as "wte.*" and "h.[0-5].*", that are not trained; with config.lora all but the
    adapters are frozen. Seed None: all weights are zero, and wait to be loaded.
    """

    def __init__(self, config, seed=0, dtype=np.float32, device="cpu", frozen=()):
        self.config = config
        C, V = config.n_embd, config.vocab_size
        self.wte = Embedding(V, C)
        self.wpe = Embedding(config.block_size, C) if config.position == "learned" else None
        self.dropout = Dropout(config.dropout)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = norm(config)
        self.lm_head = None if config.tied else Linear(C, V, bias=False, std=0.0 if config.zero_init else 0.02)
        names = [name for name, _ in self.named_parameters()]
        if idle := [pattern for pattern in frozen if not any(fnmatchcase(name, pattern) for name in names)]:
            raise ConfigError(
                f"GPT: no parameter is named {' or '.join(map(repr, idle))}, so nothing is frozen by that\n"
                f"  names : {', '.join(names[:4])}, … {names[-1]}\n"
                f"  hint  : 'wte.*' and 'h.[0-{len(self.h) - 1}].*' are patterns"
            )
        patterns = ("*.weight", "*.bias", *frozen) if config.lora else frozen
        self.initialize(seed, dtype, device, lambda name: any(fnmatchcase(name, pattern) for pattern in patterns))

    def __call__(self, tokens, noise=None, past=None, starts=None):
        """tokens: integers (B, T) -> logits (B, T, V).

        noise: see Dropout; None outside training. past: for generation; starts: for documents; see `features`.
        """
        return self.logits(self.features(tokens, noise, past, starts))

    def features(self, tokens, noise=None, past=None, starts=None):
        """tokens: integers (B, T) -> what is known of the text at each position, (B, T, C).

        past: for each of the B rows what came before it, a Past a block (nn/attention.py); it grows by these tokens.
        starts: integers (B, T), for each position the first one that it may see, counted from where the past begins;
        data/loader.py has those of packed documents. Positions go on counting over documents: rotary ones are relative,
        so a document is as it would be alone, while learned ones say where in the window it stands.
        """
        before = [row[0].length for row in past] if past else [0]
        if tokens.ndim != 2 or not 0 < tokens.shape[1] <= self.config.block_size - max(before):
            raise ShapeError(
                f"GPT: tokens of shape {tokens.shape}" + f" after {max(before)} others" * bool(past) + "\n"
                f"  rule : (B, T) with 1 <= T <= block_size = {self.config.block_size}\n"
                "  hint : tokens[:, -block_size:] are the last that fit"
            )
        x = self.wte(tokens)  # (B, T, C)
        if self.wpe is not None:
            T = tokens.shape[1]
            if past:
                positions = to_device(np.add.outer(before, np.arange(T)), self.parameters.device)  # (B, T)
            else:  # made where they are needed: a captured step copies nothing from the host
                positions = array_module(self.parameters.data).arange(T)[None]  # (1, T)
            x = x + self.wpe(positions)
        x = self.dropout(x, noise)
        for i, block in enumerate(self.h):
            # Where x needs no gradient, below all that is trained, a checkpoint would record nothing of what is inside.
            if self.config.recompute and x.requires_grad and not past:
                x = ops.checkpoint(x, function=lambda x, block=block: block(x, noise, starts=starts))
            else:
                x = block(x, noise, [row[i] for row in past] if past else None, starts)
        return self.ln_f(x)

    def logits(self, x):
        """The prediction from features: (..., C) -> (..., V)."""
        logits = ops.linear(x, self.wte.weight.T) if self.lm_head is None else self.lm_head(x)
        if self.config.softcap:  # Gemma Team 2024, "Gemma 2", section 2
            logits = self.config.softcap * ops.tanh(logits / self.config.softcap)
        return logits

    def loss(self, tokens, targets, noise=None, starts=None):
        """Mean cross-entropy, in nats, of targets (B, T), the tokens that come next. noise, starts: as in a call.

        Where nothing comes between the last product and the loss, they are one operation. It computes the gradient of
        its weight with the loss, so where that is frozen they stay two.
        """
        x = self.features(tokens, noise, starts=starts)
        w = self.wte.weight if self.lm_head is None else self.lm_head.weight
        if self.config.softcap or not w.requires_grad:
            return ops.cross_entropy(self.logits(x), targets)
        return ops.linear_cross_entropy(x, w.T if self.lm_head is None else w, targets)


class Block(Module):
    """x + attention, then x + MLP, each on normalised input: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        # Every block adds twice to the residual stream; GPT-2 shrinks what it adds so that the sum keeps its size.
        out_std = 0.0 if config.zero_init else 0.02 / math.sqrt(2 * config.n_layer)
        self.ln_1 = norm(config)
        self.attn = CausalSelfAttention(config, out_std)
        self.ln_2 = norm(config)
        self.mlp = MLP(config, out_std)

    def __call__(self, x, noise=None, past=None, starts=None):
        x = x + self.attn(self.ln_1(x), noise, past, starts)
        return x + self.mlp(self.ln_2(x), noise)


def norm(config):
    if config.norm == "rms":
        return RMSNorm(config.n_embd, config.gain, config.norm_eps)
    return LayerNorm(config.n_embd, config.bias, config.norm_eps)
