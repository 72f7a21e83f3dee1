"""Pretrain a GPT: the whole algorithm on one page. Everything else in this repository makes it faster, safer or larger.

A language model reads the beginning of a text and gives every possible next character a probability. Training shows it
real text and raises, step by step, the probability of what really came next. This takes five parts: tensors that
remember how they were computed, operations that know their derivatives, a model (GPT-2), an optimizer (AdamW), a loop.

    python examples/minimal.py [text.txt [steps]]

B batch, T time, C channels, H heads, D head size, L layers, V vocabulary. dx is ∂loss/∂x, the gradient of x.
"""

import itertools
import math
import os
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np


# ---- 1. Autograd: walk from the loss back to the weights. At each step an operation turns dy into dx = dy ∂y/∂x.
class Tensor:
    """An array that remembers its parents, from which it was computed, and how its gradient leads to theirs."""

    created = itertools.count()

    def __init__(self, data, parents=(), backward=lambda dy: ()):
        self.data, self.grad, self.order = data, None, next(Tensor.created)
        self.parents, self.to_parents = parents, backward  # backward(dy) returns one dx for each parent

    def __add__(self, other):
        """y = a + b        da = dy,  db = dy"""
        return Tensor(self.data + other.data, (self, other), lambda dy: (dy, dy))

    def backward(self):
        """The chain rule, from this scalar back to all that it was computed from: fill in their `grad`."""
        found, stack = {self}, [self]
        while stack:
            new = set(stack.pop().parents) - found
            found |= new
            stack += new
        self.grad = np.ones_like(self.data)  # ∂y/∂y = 1
        # A tensor is younger than its parents. So, youngest first, each gradient is complete before it is passed on.
        for tensor in sorted(found, key=lambda tensor: tensor.order, reverse=True):
            for parent, dx in zip(tensor.parents, tensor.to_parents(tensor.grad), strict=True):
                parent.grad = dx if parent.grad is None else parent.grad + dx  # used twice: the two gradients add up


# ---- 2. Operations: a value, and the function that leads to the gradients. x is a matrix (N, C) with a row for each of
# the N = B T positions of a batch. Attention is where a row depends on others.
def op(rule):
    """Decorator: the rule takes arrays and returns (y, backward); the operation takes tensors and returns a tensor."""

    def operation(*inputs, **options):
        y, backward = rule(*(x.data for x in inputs), **options)
        return Tensor(y, inputs, backward)

    return operation


@op
def linear(x, w, b):
    """y = x w + b        dx = dy wᵀ,  dw = xᵀ dy,  db = Σ dy"""
    return x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.sum(0))


@op
def embedding(w, ids):
    """y = w[ids]        dw[v] = Σ dy over ids = v"""

    def backward(dy):
        dw = np.zeros_like(w)
        np.add.at(dw, ids, dy)  # copying's derivative is adding
        return (dw,)

    return w[ids], backward


@op
def unembedding(x, w):
    """y = x wᵀ        dx = dy w,  dw = dyᵀ x"""
    return x @ w.T, lambda dy: (dy @ w, dy.T @ x)


@op
def layer_norm(x, w, b, eps=1e-5):
    """y = x̂ w + b,  x̂ = (x − μ)/σ        dx = (g − mean g − x̂ mean(g x̂))/σ,  g = dy w,  dw = Σ dy x̂,  db = Σ dy"""
    mean = lambda x: x.mean(-1, keepdims=True)
    σ = np.sqrt(mean((x - mean(x)) ** 2) + eps)
    xhat = (x - mean(x)) / σ
    dx = lambda g: (g - mean(g) - xhat * mean(g * xhat)) / σ  # shifting or scaling x leaves x̂ as it is
    return xhat * w + b, lambda dy: (dx(dy * w), (dy * xhat).sum(0), dy.sum(0))


@op
def gelu(x):
    """y = x (1 + t)/2,  t = tanh u,  u = √(2/π) (x + 0.044715 x³)        dx = dy ((1 + t) + x (1 − t²) u′)/2"""
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x * x * x))
    slope = lambda: c * (1 + 3 * 0.044715 * x * x)
    return x * (1 + t) / 2, lambda dy: (dy * ((1 + t) + x * (1 - t * t) * slope()) / 2,)


def softmax(z):
    """P = exp z / Σ exp z: numbers to probabilities. Subtracting the largest changes no P and prevents overflow."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@op
def attention(q, k, v, T, H):
    """y = P v,  P = softmax(q kᵀ/√D)        dv = Pᵀ dy, dZ = P (dP − Σ P dP),  dP = dy vᵀ, dq = dZ k/√D, dk = dZᵀ q/√D

    Every position compares its query q with the keys k of all positions up to itself, and receives the mean of their
    values v, weighted by how well key and query match. H heads do this side by side, each on D of the C channels.
    """
    split = lambda x: x.reshape(-1, T, H, x.shape[1] // H).swapaxes(1, 2)  # (N, C) -> (B, H, T, D)
    merge = lambda x: x.swapaxes(1, 2).reshape(-1, H * x.shape[3])
    q, k, v = split(q), split(k), split(v)
    scale = 1 / math.sqrt(q.shape[3])
    P = softmax(np.where(np.tri(T, dtype=bool), q @ k.mT * scale, -np.inf))  # exp −∞ = 0: the future is hidden

    def backward(dy):
        dy = split(dy)
        dP = dy @ v.mT
        dZ = P * (dP - (P * dP).sum(-1, keepdims=True)) * scale
        return merge(dZ @ k), merge(dZ.mT @ q), merge(P.mT @ dy)

    return merge(P @ v), backward


@op
def cross_entropy(logits, targets):
    """y = mean −log P[target],  P = softmax(logits)        dlogits = dy (P − [target])/N"""
    P, position = softmax(logits), np.arange(len(targets))
    error = P.copy()
    error[position, targets] -= 1  # what the model gave, less what it should have given
    return -np.log(P[position, targets]).mean(), lambda dy: (dy * error / len(targets),)


# ---- 3. The model: GPT-2 (Radford et al. 2019), in small.
class GPT:
    """L blocks, each of which adds to x twice: what attention gathers from other positions, what an MLP makes of it."""

    def __init__(self, V, T, L, H, C, rng):
        self.T, self.L, self.H, self.weights = T, L, H, {}
        shapes = {"wte": (V, C), "wpe": (T, C), "ln_f": (C,)}
        for i in range(L):
            shapes |= {f"h.{i}.ln_1": (C,), f"h.{i}.ln_2": (C,)}
            shapes |= {f"h.{i}.attn.{name}": (C, C) for name in ("c_q", "c_k", "c_v", "c_proj")}
            shapes |= {f"h.{i}.mlp.c_fc": (C, 4 * C), f"h.{i}.mlp.c_proj": (4 * C, C)}
        for name, shape in shapes.items():
            std = 0.02 / math.sqrt(2 * L) if name.endswith("c_proj") else 0.02  # x is a sum of 2 L such layers
            weight = rng.normal(0, std, shape) if len(shape) == 2 else np.ones(shape)
            self.weights[f"{name}.weight"] = Tensor(weight.astype(np.float32))
            if name not in ("wte", "wpe"):
                self.weights[f"{name}.bias"] = Tensor(np.zeros(shape[-1], np.float32))

    def __call__(self, tokens):
        """tokens (B, T) -> logits (B T, V): at each position one number for each token that could be next."""
        (B, T), w = tokens.shape, self.weights
        layer = lambda op, name, x: op(x, w[f"{name}.weight"], w[f"{name}.bias"])
        x = embedding(w["wte.weight"], ids=tokens.ravel()) + embedding(w["wpe.weight"], ids=np.tile(np.arange(T), B))
        for h in (f"h.{i}" for i in range(self.L)):
            y = layer(layer_norm, f"{h}.ln_1", x)
            q, k, v = (layer(linear, f"{h}.attn.{name}", y) for name in ("c_q", "c_k", "c_v"))
            x = x + layer(linear, f"{h}.attn.c_proj", attention(q, k, v, T=T, H=self.H))
            y = layer(layer_norm, f"{h}.ln_2", x)
            x = x + layer(linear, f"{h}.mlp.c_proj", gelu(layer(linear, f"{h}.mlp.c_fc", y)))
        return unembedding(layer(layer_norm, "ln_f", x), w["wte.weight"])


# ---- 4. The optimizer: a small step downhill, for each weight relative to the usual size of its gradient.
def adamw(moments, t, lr, betas=(0.9, 0.99), eps=1e-8, decay=0.1):
    """w ← w − η λ w − η m̂/(√v̂ + ε)        (Loshchilov and Hutter 2019)

    m and v are running means of g and g². They start at 0; dividing by 1 − βᵗ makes up for that and gives m̂ and v̂.
    """
    norm = math.sqrt(sum(np.vdot(p.grad, p.grad) for p, _, _ in moments))
    for p, m, v in moments:
        g, p.grad = p.grad / max(1, norm), None  # clipping: the norm is at most 1
        m += (1 - betas[0]) * (g - m)
        v += (1 - betas[1]) * (g * g - v)
        if p.data.ndim == 2:  # matrices decay, vectors do not
            p.data -= lr * decay * p.data
        p.data -= lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)  # m̂, v̂


# ---- 5. The loop: read, compare, improve. Then write.
def write(model, tokens, n, rng):
    """Draw the next token from the model's probabilities, append it, and repeat; yield n tokens."""
    for _ in range(n):
        P = softmax(model(np.array([tokens[-model.T :]])).data[-1].astype(float) / 0.8)  # temperature 0.8: bolder
        tokens = [*tokens, rng.choice(len(P), p=P)]
        yield tokens[-1]


def main(path=None, steps=1000, B=16, T=64, L=3, H=3, C=96, lr=5e-3):
    """Train on a text file, or on tiny Shakespeare if it was fetched before, or on Python's own language reference."""
    fetched = Path(os.environ.get("TINYGRAD_LM_DATA", "~/.cache/tinygrad_lm"), "tinyshakespeare.txt").expanduser()
    path = path or (fetched if fetched.is_file() else None)
    text = Path(path).read_text(encoding="utf-8") if path else "\n".join(topics.values())
    letters = sorted(set(text))  # a token is a character
    ids = np.array([letters.index(letter) for letter in text])
    train, held_out = np.split(ids, [len(ids) * 9 // 10])
    if len(held_out) <= T:
        sys.exit(f"the text has {len(text)} characters, at least {10 * T + 1} are needed")

    rng, steps = np.random.default_rng(0), int(steps)
    model = GPT(len(letters), T, L, H, C, rng)
    weights = model.weights.values()
    moments = [(p, np.zeros_like(p.data), np.zeros_like(p.data)) for p in weights]

    def loss_of(ids, starts):
        """Mean of −log P of the character that really came next, over the T positions of each window of the text."""
        windows = ids[starts[:, None] + np.arange(T + 1)]
        return cross_entropy(model(windows[:, :-1]), targets=windows[:, 1:].ravel())

    print(f"{len(text):,} characters, {len(letters)} of them different; {sum(p.data.size for p in weights):,} weights")
    print(f"blind guessing has the loss ln {len(letters)} = {math.log(len(letters)):.2f}; Ctrl-C stops early\n")
    try:
        for step in range(1, steps + 1):
            loss = loss_of(train, rng.integers(len(train) - T, size=B))
            loss.backward()
            adamw(moments, step, lr * min(step / 100, (1 + math.cos(math.pi * step / steps)) / 2))
            if step == 1 or step % 50 == 0 or step == steps:
                unseen = loss_of(held_out, np.linspace(0, len(held_out) - T - 1, 64).astype(int))
                sample = "".join(letters[i] for i in write(model, [0], 40, rng))
                print(f"step {step:4}   loss {loss.data:.2f}   held out {unseen.data:.2f}   {sample!r}", flush=True)
    except KeyboardInterrupt:
        pass
    for i in write(model, [0], 500, rng):
        print(letters[i], end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
