"""Attention on a GPU in bfloat16, without the weights in memory. See cuda/attention.cu."""

import math

from tinygrad_lm.backend import array_module
from tinygrad_lm.kernels.cuda_compile import contiguous, covered, f4, i4, i8, kernel
from tinygrad_lm.ops.attention import attention, check_inputs

TILE, THREADS, LARGEST = 64, 128, 64  # rows and threads of a block; the largest head: more does not fit the registers


@attention.kernel("cuda")
def attention_on_gpu(q, k, v, *, causal=True, starts=None, p=0.0, key=None):
    """The rule of ops/attention.py, for bfloat16 without dropout of the weights or `starts`.

    Of P one number a row is kept.
    """
    B, T, H, D = check_inputs(q, k, v, causal, starts)
    S, G = k.shape[1:3]
    if p or starts is not None or q.dtype.name != "bfloat16" or D % 16 or D > LARGEST or not covered(q, k, v):
        return attention.rule(q, k, v, causal=causal, starts=starts, p=p, key=key)
    xp, (q, k, v) = array_module(q), map(contiguous, (q, k, v))
    y, lse = xp.empty_like(q), xp.empty((B, H, T), f4)
    sizes = i4(T), i4(S), i4(H), i4(G), i4(causal), f4(1 / math.sqrt(D))
    queries, keys = (-(-T // TILE), H, B), (-(-S // TILE), G, B)
    run = lambda name: kernel("attention", name, q, 8, D=D)
    run("attention_forward")(queries, THREADS, q, k, v, y, lse, *sizes)

    def backward(dy):
        dy, delta = contiguous(dy), xp.empty((B, H, T), f4)
        dq, dk, dv = xp.empty_like(q), xp.empty_like(k), xp.empty_like(v)
        run("row_products")(-(-B * T * H // 4), THREADS, y, dy, delta, i8(B * T * H), i4(T), i4(H))
        run("attention_dq")(queries, THREADS, q, k, v, dy, lse, delta, dq, *sizes)
        run("attention_dkv")(keys, THREADS, q, k, v, dy, lse, delta, dk, dv, *sizes)
        return dq, dk, dv

    return y, backward
