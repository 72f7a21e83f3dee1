"""Attention with products of bfloat16 numbers, without the weights P in memory (Dao et al. 2022, "FlashAttention").

Blocks of 32 queries meet all the keys that they may see. The scores of a block, its weights and their gradients lie in
the first- and second-level cache; of the forward pass one number a row is kept, log Σ exp.

Sizes: T queries and S keys in all, H heads of D channels, G key heads; in blocks of 32: d of D, s of S.
"""

import math

import numpy as np

from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.bfloat16.block import block_by_tiles, block_by_vectors
from tinygrad_lm.kernels.bfloat16.instructions import (
    PALETTE,
    TILE,
    largest,
    round_pairs,
    round_row,
    tiles_off,
    tiles_on,
    turn,
)
from tinygrad_lm.kernels.bfloat16.kept import kept, widened
from tinygrad_lm.kernels.bfloat16.tiles import (
    AMX,
    DTYPES,
    NONE,
    aligned,
    at,
    blocks_of,
    copy,
    cut,
    multiply,
    tile,
    u2,
)
from tinygrad_lm.kernels.numba.attention import NO_STARTS, attention_in_one_pass
from tinygrad_lm.kernels.numba.compile import compiled, exp, f4, inlined
from tinygrad_lm.kernels.numba.dropout import drop, room_for, weights_kept
from tinygrad_lm.kernels.numba.together import shared
from tinygrad_lm.ops.attention import attention, check_inputs

CHUNK = 8  # blocks of queries over which the gradients of keys and values are summed in one product
FEW = 16  # queries from which on a block of 32 pays


@attention.on("cpu", *DTYPES)
def attention_in_bfloat16(q, k, v, *, causal=True, document_starts=None, p=0.0, key=None):
    """The rule of ops/attention.py. Of dropped weights a bit each is kept."""
    B, T, H, D = check_inputs(q, k, v, causal, document_starts)
    if T < FEW or not q.size * k.size:
        return attention_in_one_pass(q, k, v, causal=causal, document_starts=document_starts, p=p, key=key)
    S, G = k.shape[1:3]
    sizes = T, S, H, G, D, f4(1 / math.sqrt(D)), causal
    starts = NO_STARTS if document_starts is None else np.ascontiguousarray(document_starts, np.int64)
    noise = weights_kept(B, H, T, S, p, key)
    qkv = [np.ascontiguousarray(x).reshape(B * x.shape[1], -1) for x in (q, k, v)]
    y, lse = aligned((B * T, H * D)), np.empty((B, H, T), f4)
    forward, walk_back = (forward_by_tiles, backward_by_tiles) if AMX else (forward_by_vectors, backward_by_vectors)
    forward(B * G, 1, *qkv, starts, sizes, noise, y, lse, PALETTE)

    halves = [kept(x) for x in qkv] if thread.recording else None
    del qkv

    def backward(dy):
        qkv = [widened(x) for x in halves]
        dy = np.ascontiguousarray(dy).reshape(B * T, H * D)
        dq, dk, dv = (aligned(x.shape) for x in qkv)
        walk_back(B * G, 1, *qkv, dy, starts, sizes, noise, lse, dq, dk, dv, PALETTE)
        return dq.reshape(B, T, H, D), dk.reshape(B, S, G, D), dv.reshape(B, S, G, D)

    return y.reshape(B, T, H, D), backward


@inlined
def hide(row, b, t, T, S, causal, starts):
    """Set to −∞ the scores of the keys that query t of sequence b does not see, for weights of 0."""
    row[: starts[b, t] if starts.size else 0] = -np.inf
    row[t + 1 + S - T if causal else S :] = -np.inf


@inlined
def drop_weights(row, b, h, t, T, S, noise, room):
    """Drop entries of a row of weights, or of their gradients: those of query t, head h, sequence b."""
    row, (bits, of_sequence, share) = row[:S], noise
    drop(row, row, bits, b * of_sequence + (h * T + t) * S, share, room)


@inlined
def blocks_seen(t, T, S, causal):
    """How many blocks of keys the queries up to t see."""
    return blocks_of(t + 1 + S - T if causal else S)


@compiled
def scratch(rows, columns):
    """Memory for a float32 matrix."""
    memory = np.empty(4 * rows * columns + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + 4 * rows * columns].view(f4).reshape(rows, columns)


@compiled
def scratch_tiles(M, N):
    """new_tiles(M, N) (tiles.py)."""
    memory = np.empty(2 * blocks_of(M) * blocks_of(N) * TILE + 64, np.uint8)
    start = -memory.ctypes.data % 64
    memory = memory[start : start + 2 * blocks_of(M) * blocks_of(N) * TILE]
    return memory.view(u2).reshape(2 * blocks_of(M), blocks_of(N), 16, 32)


@inlined
def forward_of(block, start, stop, q, k, v, starts, sizes, noise, y, lse):
    """y and lse of each (sequence, key head) from start to stop: scores = q kᵀ, answer = P v."""
    T, S, H, G, D, scale, causal = sizes
    asked, keys, values, weights = scratch_tiles(32, D), scratch_tiles(S, D), scratch_tiles(D, S), scratch_tiles(32, S)
    scores, answer = scratch(32, 32 * blocks_of(S)), scratch(32, 32 * blocks_of(D))
    total, R, dropping, room = np.empty(32, f4), H // G, noise[0].size, room_for(S)
    for pair in range(start, stop):
        b, g = divmod(pair, G)
        cut(k, b * S, g * D, S, D, keys, True, NONE, False)
        cut(v, b * S, g * D, S, D, NONE, False, values, False)
        for h in range(g * R, g * R + R):
            for first in range(0, T, 32):
                n = min(32, T - first)
                seen = blocks_seen(first + n - 1, T, S, causal)
                cut(q, b * T + first, h * D, n, D, asked, False, NONE, False)
                for j in range(seen):
                    multiply(block, asked, 0, keys, j, 0, blocks_of(D), scores, 0, 32 * j, 0)
                for r in range(n):
                    row = scores[r, : 32 * seen]
                    hide(row, b, first + r, T, S, causal, starts)
                    most, sum = largest(row.ctypes.data, row.size), f4(0)
                    for i in range(row.size):
                        row[i] = exp(scale * (row[i] - most))
                        sum += row[i]
                    total[r], lse[b, h, first + r] = sum, scale * most + np.log(sum)
                    if dropping:
                        drop_weights(row, b, h, first + r, T, S, noise, room)
                    round_all(scores, r, weights, seen)
                for j in range(blocks_of(D)):
                    multiply(block, weights, 0, values, j, 0, seen, answer, 0, 32 * j, 0)
                for r in range(n):
                    mixed, row = answer[r, :D], y[b * T + first + r, h * D : h * D + D]
                    for i in range(D):
                        row[i] = mixed[i] / total[r]


@inlined
def round_all(x, r, tiles, n):
    """Round row r of x, 32 n numbers, to its row of tiles."""
    for k in range(n):
        round_row(at(x, r, 32 * k), tile(tiles, r // 16, k) + 64 * (r % 16))


@inlined
def transpose_all(x, tiles, c, n):
    """Round x (32, 32 n) to the tiles of xᵀ as a left side, in column c of tiles."""
    for j in range(2 * n):
        for p in range(16):
            round_pairs(at(x, 2 * p, 16 * j), at(x, 2 * p + 1, 16 * j), tile(tiles, j, c) + 64 * p)
        turn(tile(tiles, j, c))


@inlined
def backward_of(block, start, stop, q, k, v, dy, starts, sizes, noise, lse, dq, dk, dv):
    """dq, dk and dv of each (sequence, key head) from start to stop.

    P is computed again, from lse; dP = dy vᵀ, dropped as P was; dz = P (dP − Σ P dP) scale is the scores' gradient.
    """
    T, S, H, G, D, scale, causal = sizes
    R, d, many, seen = H // G, blocks_of(D), 32 * CHUNK, 32 * blocks_of(S)
    q_rows, q_columns = scratch_tiles(many, D), scratch_tiles(D, many)
    dy_rows, dy_columns = scratch_tiles(many, D), scratch_tiles(D, many)
    k_turned, k_columns, v_turned = scratch_tiles(S, D), scratch_tiles(D, S), scratch_tiles(S, D)
    P_turned, dz_turned, dz_rows = scratch_tiles(S, many), scratch_tiles(S, many), scratch_tiles(32, S)
    P, dz, answer = scratch(32, seen), scratch(32, seen), scratch(32, 32 * d)
    dk_sum, dv_sum = scratch(seen, 32 * d), scratch(seen, 32 * d)
    dropping, room = noise[0].size, room_for(S)
    for pair in range(start, stop):
        b, g = divmod(pair, G)
        cut(k, b * S, g * D, S, D, k_turned, True, k_columns, False)
        cut(v, b * S, g * D, S, D, v_turned, True, NONE, False)
        dk_sum[:], dv_sum[:] = 0, 0
        for h in range(g * R, g * R + R):
            for begin in range(0, T, 32 * CHUNK):
                end = min(T, begin + 32 * CHUNK)
                cut(q, b * T + begin, h * D, end - begin, D, q_rows, False, q_columns, False)
                cut(dy, b * T + begin, h * D, end - begin, D, dy_rows, False, dy_columns, False)
                for c in range(blocks_of(end - begin)):
                    first = begin + 32 * c
                    n = min(32, end - first)
                    seen = blocks_seen(first + n - 1, T, S, causal)
                    for j in range(seen):
                        multiply(block, q_rows, c, k_turned, j, 0, d, P, 0, 32 * j, 0)
                        multiply(block, dy_rows, c, v_turned, j, 0, d, dz, 0, 32 * j, 0)
                    for r in range(n):
                        w, dw, shift, mean = P[r, : 32 * seen], dz[r, : 32 * seen], lse[b, h, first + r], f4(0)
                        hide(w, b, first + r, T, S, causal, starts)
                        if dropping:
                            drop_weights(dw, b, h, first + r, T, S, noise, room)
                        for i in range(w.size):
                            w[i] = exp(scale * w[i] - shift)
                            mean += w[i] * dw[i]
                        for i in range(w.size):
                            dw[i] = w[i] * (dw[i] - mean) * scale
                        if dropping:
                            drop_weights(w, b, h, first + r, T, S, noise, room)
                        round_all(dz, r, dz_rows, seen)
                    P[n:, : 32 * seen], dz[n:, : 32 * seen] = 0, 0
                    transpose_all(P, P_turned, c, seen)
                    transpose_all(dz, dz_turned, c, seen)
                    for j in range(d):
                        multiply(block, dz_rows, 0, k_columns, j, 0, seen, answer, 0, 32 * j, 0)
                    copy(answer, 0, 0, dq, b * T + first, h * D, n, D)
                c, last = 0, blocks_of(end - begin)
                for j in range(blocks_of(S)):  # keys that the blocks of queries from c on see
                    while c < last and j >= blocks_seen(min(begin + 32 * c + 31, T - 1), T, S, causal):
                        c += 1
                    for i in range(d if c < last else 0):
                        multiply(block, P_turned, j, dy_columns, i, c, last - c, dv_sum, 32 * j, 32 * i, 1)
                        multiply(block, dz_turned, j, q_columns, i, c, last - c, dk_sum, 32 * j, 32 * i, 1)
        copy(dk_sum, 0, 0, dk, b * S, g * D, S, D)
        copy(dv_sum, 0, 0, dv, b * S, g * D, S, D)


@shared
def forward_by_tiles(start, stop, q, k, v, starts, sizes, noise, y, lse, palette):
    tiles_on(palette.ctypes.data)
    forward_of(block_by_tiles, start, stop, q, k, v, starts, sizes, noise, y, lse)
    tiles_off()


@shared
def forward_by_vectors(start, stop, q, k, v, starts, sizes, noise, y, lse, palette):
    forward_of(block_by_vectors, start, stop, q, k, v, starts, sizes, noise, y, lse)


@shared
def backward_by_tiles(start, stop, q, k, v, dy, starts, sizes, noise, lse, dq, dk, dv, palette):
    tiles_on(palette.ctypes.data)
    backward_of(block_by_tiles, start, stop, q, k, v, dy, starts, sizes, noise, lse, dq, dk, dv)
    tiles_off()


@shared
def backward_by_vectors(start, stop, q, k, v, dy, starts, sizes, noise, lse, dq, dk, dv, palette):
    backward_of(block_by_vectors, start, stop, q, k, v, dy, starts, sizes, noise, lse, dq, dk, dv)
