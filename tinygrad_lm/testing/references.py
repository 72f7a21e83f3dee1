"""The value of operations once more, computed in another way: Python's math on single numbers, loops, einsum.

A derivative check compares a rule's two halves with each other; only this says that the value is the one meant.
"""

import math
import statistics
import zlib
from collections.abc import Callable

import numpy as np


def each(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    """A function of Python numbers, entry by entry of arrays that broadcast."""
    return lambda *arrays: np.vectorize(function, otypes=[float])(*arrays)


def fold(function: Callable[..., float]) -> Callable[..., np.ndarray]:
    """A function of a list of numbers, over the chosen axes of an array."""

    def folded(x, axis=None, keepdims=False):
        axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = sorted(i % x.ndim for i in axes)
        rest = [i for i in range(x.ndim) if i not in axes]
        lists = x.transpose(*rest, *axes).reshape(*(x.shape[i] for i in rest), math.prod(x.shape[i] for i in axes))
        y = np.empty(lists.shape[:-1])
        for place in np.ndindex(y.shape):
            y[place] = function(lists[place].tolist())
        return np.expand_dims(y, tuple(axes)) if keepdims else y

    return folded


log_sum_exp = fold(lambda row: math.log(math.fsum(map(math.exp, row))))


def log_softmax(x, axis=-1):
    return x - log_sum_exp(x, axis, keepdims=True)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


def keep(shape, p, key):
    """Philox's uniform numbers for this key, row after row, drawn without the package's help."""
    seed, stream, step, row = key
    drawn = []
    for b in range(shape[0] if shape else 1):
        bits = np.random.Philox(key=[seed, zlib.crc32(stream.encode())], counter=[0, step, row + b, 0])
        drawn.append(np.random.Generator(bits).random(shape[1:], np.float32) >= p)
    return np.array(drawn, bool).reshape(shape)


def dropout(x, p, key):
    return np.where(keep(x.shape, p, key), x, 0) / (1 - p)


def layer_norm(x, w=1, b=0, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * w + b


def rms_norm(x, w=1, eps=1e-6):
    return x * w / np.sqrt(np.linalg.norm(x, axis=-1, keepdims=True) ** 2 / x.shape[-1] + eps)


def rotary(x, base=10000.0, start=0, scaling=()):
    """The pairs as complex numbers, times exp(i t base^(−2i/D)), where no scaling slows them down."""
    half = x.shape[-1] // 2
    frequency = [slowed(base ** (-i / half), *scaling) for i in range(half)]
    z = x[..., :half] + 1j * x[..., half:]
    for t in range(x.shape[1]):
        z[:, t] *= [np.exp(1j * (start + t) * f) for f in frequency]
    return np.concatenate([z.real, z.imag], -1)


def slowed(frequency, factor=1.0, low=1.0, high=4.0, length=1):
    """Llama 3.1's three cases, by how often a pair turns in so many positions."""
    turns = length * frequency / (2 * np.pi)
    if turns < low:
        return frequency / factor
    if turns > high:
        return frequency
    share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency


def attention(q, k, v, causal=True, document_starts=None, p=0.0, key=None):
    """One query after the other, each over the keys that it may see."""
    (B, T, H, D), (S, G) = q.shape, k.shape[1:3]
    R, y = H // G, np.empty_like(q)
    mask = (keep((B, G, R * T, S), p, key) if p else np.ones((B, G, R * T, S))) / (1 - p)
    for b, t, h in np.ndindex(B, T, H):
        g, seen = h // R, t + S - T + 1 if causal else S
        start = 0 if document_starts is None else document_starts[b, t]
        weights = np.exp([k[b, s, g] @ q[b, t, h] / math.sqrt(D) for s in range(start, seen)])
        weights = weights / weights.sum() * mask[b, g, h % R * T + t, start:seen]
        y[b, t, h] = weights @ v[b, start:seen, g]
    return y


def log_probability(logits, targets, ignore_index=-100):
    y = np.zeros(targets.shape)
    for place, t in np.ndenumerate(targets):
        if t != ignore_index:
            y[place] = math.log(math.exp(logits[place][t]) / np.exp(logits[place]).sum())
    return y


def cross_entropy(logits, targets, ignore_index=-100):
    logp = log_probability(logits, targets, ignore_index)[targets != ignore_index]
    return np.array(-statistics.fmean(logp) if logp.size else 0.0)


def after_linear(function):
    """A function of logits, targets and ignore_index as one of x and w in the logits' place."""
    return lambda x, w, *others, **options: function(np.einsum("...i,io->...o", x, w), *others, **options)


def permuted(x, axes):
    """Each entry carried to its new place by hand."""
    y = np.empty([x.shape[i] for i in axes])
    for place in np.ndindex(x.shape):
        y[tuple(place[i] for i in axes)] = x[place]
    return y


def transpose(x, axes):
    return permuted(x, range(x.ndim)[::-1] if axes is None else axes)


def swapaxes(x, axis1, axis2):
    axes = list(range(x.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return permuted(x, axes)


def concat(*xs, axis):
    return np.moveaxis(np.concatenate([np.moveaxis(x, axis, 0) for x in xs]), 0, axis)
