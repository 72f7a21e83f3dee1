"""Attention on a CPU without the weights P in memory (Dao et al. 2022, "FlashAttention").

In the blocks of numpy/attention.py. What lies between the products is one pass here, and instead of P one number a row
is kept, log Σ exp: the backward pass computes P again from it, which is cheaper than reading it from memory, and the
memory needed grows with T, not with T².
"""

import math

import numpy as np

from tinygrad_lm.engine.observe import thread
from tinygrad_lm.kernels.numba.attention_of_one import attention_of_one
from tinygrad_lm.kernels.numba.compile import compiled, exp, f4, inlined
from tinygrad_lm.kernels.numba.dropout import drop, room_for, weights_kept
from tinygrad_lm.kernels.numpy.attention import blocks, rows, unrows
from tinygrad_lm.ops.attention import attention, check_inputs

NO_STARTS = np.zeros((0, 0), np.int64)


@attention.on("cpu", "float32")
def attention_in_one_pass(q, k, v, *, causal=True, document_starts=None, p=0.0, key=None):
    """The rule of ops/attention.py. Of dropped weights a bit each is kept."""
    B, T, H, D = check_inputs(q, k, v, causal, document_starts)
    if T == 1 and not p and not thread.recording:
        return attention_of_one(q, k, v, document_starts), None
    S, G = k.shape[1:3]
    R, scale = H // G, f4(1 / math.sqrt(D))
    repeat = R if causal else 0
    starts = None if document_starts is None else np.ascontiguousarray(document_starts, np.int64)
    noise = weights_kept(B, H, T, S, p, key)
    y, lse = np.empty_like(q, order="C"), np.empty((B, G, T * R), f4)

    def hidden(b, here, keys):
        return NO_STARTS if starts is None else starts[b, here] - keys.start

    def places(b, here, keys):
        return b.start, here.start, keys.start, T, S, R

    for b, here, n, first, keys in blocks(q, S, causal, starts):
        z = rows(q[b, here], G) @ k[b, keys].transpose(0, 2, 3, 1)  # (b, G, n R, keys)
        of_rows = lse[b, :, here.start * R : here.stop * R]
        softmax(z, scale, hidden(b, here, keys), first, repeat, of_rows, noise, places(b, here, keys))
        y[b, here] = unrows(z @ v[b, keys].swapaxes(1, 2), n)

    def backward(dy):
        dq, dk, dv = np.empty_like(y), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
        for b, here, n, first, keys in blocks(q, S, causal, starts):
            qb, kb, dyb = rows(q[b, here], G), k[b, keys].swapaxes(1, 2), rows(dy[b, here], G)
            P = qb @ kb.swapaxes(2, 3)
            dz = dyb @ v[b, keys].transpose(0, 2, 3, 1)
            of_rows = lse[b, :, here.start * R : here.stop * R]
            softmax_backward(P, dz, scale, hidden(b, here, keys), first, repeat, of_rows, noise, places(b, here, keys))
            dv[b, keys] += (P.swapaxes(2, 3) @ dyb).swapaxes(1, 2)
            dq[b, here] = unrows(dz @ kb, n)
            dk[b, keys] += (dz.swapaxes(2, 3) @ qb).swapaxes(1, 2)
        return dq, dk, dv

    return y, backward


@inlined
def drop_weights(row, b, g, i, j, noise, places, room):
    """Drop entries of a row of weights, or of their gradients, from key j on: those of row i, key head g, sequence b.

    places: of the block's first sequence, query and key among all; T, S and R
    """
    (bits, of_sequence, share), (sequence, query, key, T, S, R) = noise, places
    head, t = g * R + i % R, query + i // R
    drop(row, row, bits, (sequence + b) * of_sequence + (head * T + t) * S + key + j, share, room)


@compiled
def softmax(z, scale, begin, first, repeat, lse, noise, places):
    """In place P = softmax(scale z) over each row's visible keys and 0 beside them; lse = log Σ exp(scale z).

    Row i sees the keys before `first + i // repeat`, all rows those before `first` if repeat is 0; and none before
    begin[b, t], where t is its query among those of the block, (b, n). Where all begin at 0 there is no entry.
    """
    B, G, N, _ = z.shape
    R, room = places[-1], room_for(z.shape[3])
    for bg in range(B * G):
        for i in range(N):
            b, g = divmod(bg, G)
            start = begin[b, i // R] if begin.size else 0
            end = first + (i // repeat if repeat else 0)
            z[b, g, i, :start] = f4(0)
            z[b, g, i, end:] = f4(0)
            row = z[b, g, i, start:end]
            largest = row[0]
            for j in range(len(row)):
                largest = max(largest, row[j])
            total = f4(0)
            for j in range(len(row)):
                row[j] = exp(scale * (row[j] - largest))
                total += row[j]
            for j in range(len(row)):
                row[j] /= total
            lse[b, g, i] = scale * largest + np.log(total)
            if noise[0].size:
                drop_weights(row, b, g, i, start, noise, places, room)


@compiled
def softmax_backward(z, dP, scale, begin, first, repeat, lse, noise, places):
    """In place z becomes P = exp(scale z − lse), and dP becomes dz = P (dP − Σ P dP) scale; P and dP are dropped."""
    B, G, N, _ = z.shape
    R, room = places[-1], room_for(z.shape[3])
    for bg in range(B * G):
        for i in range(N):
            b, g = divmod(bg, G)
            start = begin[b, i // R] if begin.size else 0
            end = first + (i // repeat if repeat else 0)
            z[b, g, i, :start] = f4(0)
            z[b, g, i, end:] = f4(0)
            dP[b, g, i, :start] = f4(0)
            dP[b, g, i, end:] = f4(0)
            P, dz = z[b, g, i, start:end], dP[b, g, i, start:end]
            if noise[0].size:
                drop_weights(dz, b, g, i, start, noise, places, room)
            mean = f4(0)
            for j in range(len(P)):
                P[j] = exp(scale * P[j] - lse[b, g, i])
                mean += P[j] * dz[j]
            for j in range(len(P)):
                dz[j] = P[j] * (dz[j] - mean) * scale
            if noise[0].size:
                drop_weights(P, b, g, i, start, noise, places, room)
