"""Causal self-attention: where positions exchange information."""

from tinygrad_lm import ops
from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.nn.layers import Dropout, Linear, RMSNorm
from tinygrad_lm.nn.module import Module


class CausalSelfAttention(Module):
    """(B, T, C) -> (B, T, C). Every position asks (q), offers (k) and tells (v); the answers are mixed by c_proj.

    B batch, T time, C channels, H query heads, G key heads, D head size. `config`: models/config.py.
    """

    def __init__(self, config, out_std):
        C, H, G, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
        self.c_q = Linear(C, H * D, config.bias, lora=config.lora)
        self.c_k = Linear(C, G * D, config.bias, lora=config.lora)
        self.c_v = Linear(C, G * D, config.bias, lora=config.lora)
        self.c_proj = Linear(H * D, C, config.bias, std=out_std, lora=config.lora)
        # Normalised queries and keys bound the logits (Henry et al. 2020, "Query-key normalization").
        self.q_norm = RMSNorm(D, config.gain, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(D, config.gain, config.norm_eps) if config.qk_norm else None
        self.dropout = Dropout(config.dropout)
        self.head_size = D
        self.rotary = None
        if config.position == "rotary":
            self.rotary = {"base": config.rope_base, "scaling": tuple(config.rope_scaling)}

    def __call__(self, x, noise=None, past=None, starts=None):
        """noise: see Dropout; past: for each row of x the Past before it, to which x's is added (see Past).

        starts: integers (B, T), the first position that each may see, counted from the beginning of the past.
        """
        B, T, _ = x.shape
        q = self.c_q(x).reshape(B, T, -1, self.head_size)  # (B, T, H, D)
        k = self.c_k(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        v = self.c_v(x).reshape(B, T, -1, self.head_size)  # (B, T, G, D)
        if self.q_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if past is None:
            drop = {"p": self.dropout.p, "key": self.dropout.key(noise)} if noise and self.dropout.p else {}
            y = ops.attention(*self.turned(q, k), v, starts=starts, **drop)  # (B, T, H, D)
        else:
            rows = [slice(b, b + 1) for b in range(B)]
            starts = [starts if starts is None else starts[b] for b in rows]
            texts = zip(rows, past, starts, strict=True)
            y = ops.concat(*[self.continued(q[b], k[b], v[b], row, start) for b, row, start in texts])
        return self.dropout(self.c_proj(y.reshape(B, T, -1)), noise)

    def turned(self, q, k, start=0):
        """Queries and keys of the positions from `start` on, where these are told by rotation."""
        if self.rotary is None:
            return q, k
        return ops.rotary(q, start=start, **self.rotary), ops.rotary(k, start=start, **self.rotary)

    def continued(self, q, k, v, past, starts):
        """One row's answers, (1, T, H, D), from its past and from itself."""
        q, k = self.turned(q, k, past.length)
        return ops.attention(q, *past.extend(k, v), starts=starts)


class Past:
    """One block's keys and values of one text so far, so that a new position need not compute them again.

    Room for `size` positions is set aside at once; memory that was never written to is not taken from the system.
    """

    def __init__(self, size):
        self.length, self.size, self.k, self.v = 0, size, None, None

    def extend(self, k, v):
        """Append keys and values, (1, T, G, D) each; return all so far, (1, S, G, D)."""
        if self.k is None:
            _, _, G, D = k.shape
            self.k, self.v = (array_module(x.data).empty((1, self.size, G, D), x.dtype) for x in (k, v))
        start, self.length = self.length, self.length + k.shape[1]
        self.k[:, start : self.length], self.v[:, start : self.length] = k.data, v.data
        return Tensor.of(self.k[:, : self.length]), Tensor.of(self.v[:, : self.length])

    def copy(self):
        """Another Past of the same text, which goes on in its own way."""
        twin = Past(self.size)
        if self.length:
            twin.extend(Tensor.of(self.k[:, : self.length]), Tensor.of(self.v[:, : self.length]))
        return twin
