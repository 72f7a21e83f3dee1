"""Causal self-attention: where positions exchange information."""

from tinygrad_lm import ops
from tinygrad_lm.nn.layers import Dropout, Linear
from tinygrad_lm.nn.module import Module


class CausalSelfAttention(Module):
    """(B, T, C) -> (B, T, C). Every position asks (q), offers (k) and tells (v); the answers are mixed by c_proj.

    B batch, T time, C channels, H query heads, G key heads, D = C/H head size. `config`: models/config.py.
    """

    def __init__(self, config, out_std):
        C, G, D = config.n_embd, config.kv_heads, config.head_size
        self.c_q = Linear(C, C, config.bias)
        self.c_k = Linear(C, G * D, config.bias)
        self.c_v = Linear(C, G * D, config.bias)
        self.c_proj = Linear(C, C, config.bias, std=out_std)
        self.dropout = Dropout(config.dropout)
        self.head_size = D
        self.rotary = config.position == "rotary"
        self.qk_norm = config.qk_norm

    def __call__(self, x, noise=None, past=None):
        """noise: see Dropout; past: the Past of the positions before x, to which x's are added (models/generate.py)."""
        B, T, C = x.shape
        q = self.c_q(x).reshape(B, T, -1, self.head_size)  # (B, T, H, D)
        k = self.c_k(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        v = self.c_v(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        if self.qk_norm:  # bounds the logits of attention (Henry et al. 2020, "Query-key normalization")
            q, k = ops.rms_norm(q), ops.rms_norm(k)
        if self.rotary:
            start = past.length if past else 0
            q, k = ops.rotary(q, start=start), ops.rotary(k, start=start)
        if past:
            k, v = past.extend(k, v)  # (B, S, G, D), S all positions so far
        drop = {"p": self.dropout.p, "key": self.dropout.key(noise)} if noise and self.dropout.p else {}
        y = ops.attention(q, k, v, **drop)  # (B, T, H, D)
        return self.dropout(self.c_proj(y.reshape(B, T, C)), noise)
