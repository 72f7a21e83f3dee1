"""Causal self-attention: where positions exchange information. The page's, with what later models added.

B batch, T time, C channels, H query heads, G key heads, D head size.
"""

from tinygrad_lm import ops
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.nn.context import NONE, Context
from tinygrad_lm.nn.layers import Dropout, Linear, RMSNorm
from tinygrad_lm.nn.module import Module


class CausalSelfAttention(Module):
    """(B, T, C) -> (B, T, C). Every position asks (q), offers (k) and answers (v); c_proj mixes the answers.

    It adds to the page rotary positions, normalised q and k, fewer key heads, dropout, a cache. See models/config.py.
    """

    def __init__(self, config, out_std: float):
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
        rotary = {"base": config.rope_base, "scaling": tuple(config.rope_scaling)}
        self.rotary = rotary if config.position == "rotary" else None

    def forward(self, x: Tensor, context: Context = NONE) -> Tensor:
        B, T, _ = x.shape
        q = self.c_q(x).reshape(B, T, -1, self.head_size)  # (B, T, H, D)
        k = self.c_k(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        v = self.c_v(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        if self.q_norm and self.k_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if context.cache:
            y = self.continued(q, k, v, context)
        else:
            q, k = self.turned(q, k)
            options = {"document_starts": context.document_starts, **self.dropout_of_weights.options(context)}
            y = ops.attention(q, k, v, **options)  # (B, T, H, D)
        return self.dropout(self.c_proj(y.reshape(B, T, -1)), context)

    def turned(self, q, k, start=0):
        """Queries and keys of the positions from `start` on, with their positions as angles if those are rotary."""
        return [x if self.rotary is None else ops.rotary(x, start=start, **self.rotary) for x in (q, k)]

    def continued(self, q, k, v, context):
        """The answers of all rows, (B, T, H, D): of those of one cache together, from it and from themselves."""
        y, stop, starts = [], 0, context.document_starts
        for cache in context.cache:
            b = slice(stop, stop := stop + cache.rows)
            qb, kb = self.turned(q[b], k[b], cache.lengths.get(self.name, 0))
            kb, vb = cache.extend(self.name, kb, v[b])
            y.append(ops.attention(qb, kb, vb, document_starts=None if starts is None else starts[b]))
        return ops.concat(*y) if len(y) > 1 else y[0]
