"""Causal self-attention: where positions exchange information. The page's, with what later models added.

B batch, T time, C channels, H query heads, G key heads, D head size.
"""

from tinygrad_lm import ops
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.nn.layers import Dropout, Linear, RMSNorm
from tinygrad_lm.nn.module import Module


class CausalSelfAttention(Module):
    """(B, T, C) -> (B, T, C). Every position asks (q), offers (k) and answers (v); c_proj mixes the answers.

    What this adds to examples/minimal.py: rotary positions, normalised queries and keys, fewer key heads than query
    heads, dropout, and a cache for generation. `config`: models/config.py.
    """

    def __init__(self, config, out_std):
        C, H, G, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
        self.c_q = Linear(C, H * D, config.bias)
        self.c_k = Linear(C, G * D, config.bias)
        self.c_v = Linear(C, G * D, config.bias)
        self.c_proj = Linear(H * D, C, config.bias, std=out_std)
        # Normalised queries and keys bound the logits (Henry et al. 2020, "Query-key normalization").
        self.q_norm = RMSNorm(D, config.gain, config.norm_eps or 1e-6) if config.qk_norm else None
        self.k_norm = RMSNorm(D, config.gain, config.norm_eps or 1e-6) if config.qk_norm else None
        self.dropout, self.dropout_of_weights = Dropout(config.dropout), Dropout(config.dropout)
        self.head_size = D
        self.rotary = None
        if config.position == "rotary":
            self.rotary = {"base": config.rope_base, "scaling": tuple(config.rope_scaling)}

    def forward(self, x, context=NONE):
        B, T, _ = x.shape
        q = self.c_q(x).reshape(B, T, -1, self.head_size)  # (B, T, H, D)
        k = self.c_k(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        v = self.c_v(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        if self.q_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if context.cache:
            y = ops.concat(*[self.continued(q[b : b + 1], k[b : b + 1], v[b : b + 1], context, b) for b in range(B)])
        else:
            options = {"document_starts": context.document_starts, **self.dropout_of_weights.options(context)}
            y = ops.attention(*self.turned(q, k), v, **options)  # (B, T, H, D)
        return self.dropout(self.c_proj(y.reshape(B, T, -1)), context)

    def turned(self, q, k, start=0):
        """Queries and keys of the positions from `start` on, with their positions as angles if those are rotary."""
        if self.rotary is None:
            return q, k
        return ops.rotary(q, start=start, **self.rotary), ops.rotary(k, start=start, **self.rotary)

    def continued(self, q, k, v, context, b):
        """The answers of row b, (1, T, H, D), from its cache and from itself."""
        cache, starts = context.cache[b], context.document_starts
        q, k = self.turned(q, k, cache.lengths.get(self.name, 0))
        k, v = cache.extend(self.name, k, v)
        return ops.attention(q, k, v, document_starts=None if starts is None else starts[b : b + 1])
