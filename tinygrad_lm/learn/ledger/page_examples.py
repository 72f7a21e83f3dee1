"""Small backward passes to look at, each a function to its Ledger; its docstring is its title."""

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT


def scalar():
    """One neuron: tanh(a b + c)"""
    a, b, c = (Tensor(x, requires_grad=True, name=name) for name, x in (("a", 2.0), ("b", -3.0), ("c", 6.5)))

    def neuron():
        u = a * b
        v = u + c
        return ops.tanh(v)

    return trace(neuron)


def diamond():
    """A diamond: where a value is used again, its gradients add up"""
    x = Tensor(0.5, requires_grad=True, name="x")

    def two_ways():
        u = ops.exp(x)
        v = ops.tanh(u)
        w = u * u
        return v * w + x

    return trace(two_ways)


def linear():
    """A linear classifier: cross-entropy of x W + b"""
    random = np.random.default_rng(0)
    x, targets = random.standard_normal((4, 5)), np.array([0, 2, 1, 2])
    W = Tensor(random.standard_normal((5, 3)) / 2, requires_grad=True, name="W")
    b = Tensor(np.zeros(3), requires_grad=True, name="b")

    def classifier():
        logits = ops.linear(x, W, b)
        return ops.cross_entropy(logits, targets)

    return trace(classifier)


def gpt():
    """A transformer of two layers"""
    model = GPT(GPTConfig(vocab_size=65, block_size=16, n_layer=2, n_head=4, n_embd=32), seed=0)
    tokens = np.random.default_rng(0).integers(0, 65, (1, 17))
    return trace(lambda: ops.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]))


EXAMPLES = {f.__name__: f for f in (scalar, diamond, linear, gpt)}
