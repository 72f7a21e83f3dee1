"""Attention on a GPU in bfloat16, without the weights in memory. See attention.cu and attention_backward.cu."""

import math

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda.columns import remember
from tinygrad_lm.kernels.cuda.compile import contiguous, covered, f4, hopper, i4, kernel
from tinygrad_lm.kernels.cuda.philox import arguments
from tinygrad_lm.ops.attention import attention, check_inputs
from tinygrad_lm.ops.dropout import check_probability

WARPS, LARGEST = 4, 128  # of a block; the largest head: more does not fit the registers
STRIP, KEYS = 16, 64  # queries of a warp's strip; keys of a block


@attention.on("cuda", "bfloat16")
def attention_on_gpu(q, k, v, *, causal=True, document_starts=None, p=0.0, key=None):
    """An implementation of `attention` of ops/attention.py. Keeps a number a row of P, and the bits of its dropout."""
    B, T, H, D = check_inputs(q, k, v, causal, document_starts)
    S, G = k.shape[1:3]
    check_probability(p)
    if not (covers(q.dtype, D, S, p) and covered(q, k, v)):
        return NotImplemented
    xp, (q, k, v) = array_module(q), map(contiguous, (q, k, v))
    starts = None if document_starts is None else contiguous(xp.asarray(document_starts, i4))
    sizes = i4(T), i4(S), i4(H), i4(G), i4(causal), f4(math.log2(math.e) / math.sqrt(D))
    dropped = mask(q, p, key, S, causal) if p else None, f4(1 / (1 - p))
    wgmma = D == 64 and hopper(xp)
    strips = 2 if D <= 64 and not (p or wgmma) else 1  # as many as fit the registers
    constants = {"D": D, "STRIPS": strips, "WGMMA": int(wgmma)}
    constants |= {"DROPOUT": int(p > 0), "STARTS": int(starts is not None)}
    blocks = lambda warps: (-(-T // (STRIP * strips * warps)), H, B)
    y, logs = xp.empty_like(q), xp.empty((B, H, T), f4)
    warps = 2 * WARPS if wgmma else WARPS  # two warpgroups share the keys that come
    launch = kernel("attention", "attention_forward", q, 8, **constants, WARPS=warps)
    launch(blocks(warps), 32 * warps, q, k, v, starts, y, logs, *sizes, *dropped)

    def backward(dy):
        dy, delta = contiguous(dy), xp.empty((B, H, T), f4)
        dq, dk, dv = xp.empty_like(q), xp.empty_like(k), xp.empty_like(v)
        dq_kernel, dkv_kernel = (
            kernel("attention_backward", name, q, 8, **constants, WARPS=WARPS)
            for name in ("attention_dq", "attention_dkv")
        )
        of_queries, of_keys = blocks(WARPS), (-(-S // KEYS), G, B)
        parts = [xp.empty((B * n, heads * D), f4) for n, heads, _ in (of_queries, of_keys, of_keys)]
        dq_kernel(of_queries, 32 * WARPS, q, k, v, starts, y, dy, logs, delta, dq, parts[0], *sizes, *dropped)
        dkv_kernel(of_keys, 2 * KEYS, q, k, v, starts, dy, logs, delta, dk, dv, *parts[1:], *sizes, *dropped)
        for dx, sums in zip((dq, dk, dv), parts, strict=True):
            remember(dx, sums)
        return dq, dk, dv

    return y, backward


def mask(q, p, key, S, causal):
    """Which weights of q's queries are kept, as attention_dropout.cu packs them: (B, H, T, ⌈S/64⌉) words."""
    xp, (B, T, H, _) = array_module(q), q.shape
    words = xp.empty((B, H, T, -(-S // 64)), np.uint64)
    launch = kernel("attention_dropout", "attention_mask", q, 8)
    launch((-(-T // 8), H, B), 128, words, i4(T), i4(S), i4(H), i4(causal), *arguments(xp, p, *key))
    return words


def covers(dtype, D, S, p):
    """Whether a kernel takes heads of size D, S keys and dropout of the weights with probability p."""
    return dtype.name == "bfloat16" and D % 16 == 0 and D <= LARGEST and not (p and S % 8)
