"""Lesson 3: why gradients are added, never overwritten.

A value that is used twice changes the loss along two paths at once. The chain rule for several variables adds them:

    L = f(u, v),  u = u(x),  v = v(x)        ∂L/∂x = ∂L/∂u ∂u/∂x + ∂L/∂v ∂v/∂x

That sum is the `+=` in every engine. Here is the same walk with `=` instead, on three graphs.

    python examples/lessons/03_adding_up.py
"""

import numpy as np

from tinygrad_lm import Tensor, ops
from tinygrad_lm.engine.graph import ancestors, unbroadcast
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.programs import run_lesson


def main(out="."):
    shown = {}

    # 1. A square: both factors are the same x. With = the second gradient overwrites the first, and half is lost.
    x = Tensor(np.array(3.0), requires_grad=True)
    shown["square"] = compare("L = x · x at x = 3", lambda: x * x, x)

    # 2. A residual connection: x is used directly and through a branch. With = the direct path is cut, by which
    #    gradients reach the first layers of a deep network.
    x = Tensor(np.array(3.0), requires_grad=True)
    shown["residual"] = compare("L = x + tanh(x / 3) at x = 3", lambda: x + (x / 3).tanh(), x)

    # 3. A language model whose token embedding is also its output matrix: one parameter, used at both ends. With = the
    #    head's part is overwritten, and the embedding's part comes down a residual stream that was cut twice.
    config = GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=16)
    model = GPT(config, dtype=np.float64)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 9))

    def loss(rows=slice(None)):
        return ops.cross_entropy(model(tokens[rows, :-1]), tokens[rows, 1:])

    shown["tied"] = compare("GPT with a tied embedding: the norm of wte's gradient", loss, model.wte.weight)

    # 4. The same += works across backward passes. The two halves of a batch, one after the other, give the gradient of
    #    the whole batch: so a small machine trains with large batches. But a step that forgets to zero the gradients
    #    adds to the last step's.
    print("\nGradients of several backward passes: norm of wte's")
    g = model.wte.weight.grad
    norms = {}

    def note(name):
        norms[name] = float(np.linalg.norm(g))
        print(f"  {name:44} {norms[name]:.6f}")

    model.flat.zero_grad()
    loss().backward()
    note("the whole batch")
    model.flat.zero_grad()
    for half in (slice(0, 1), slice(1, 2)):
        (loss(half) / 2).backward()
        note(f"row {half.start}, its loss divided by 2" + ", added" * half.start)
    loss().backward()
    note("the whole batch again, without zero_grad()")
    return shown | {"norms": norms}


def compare(title, f, leaf):
    """The gradient of a leaf with += and with =, and with the engine's own walk."""
    print(f"\n{title}")
    found = {"+=": walk(f(), leaf, add=True), "=": walk(f(), leaf, add=False)}
    f().backward()
    assert np.array_equal(found["+="], leaf.grad)
    norms = {sign: float(np.linalg.norm(dx)) for sign, dx in found.items()}
    print(f"  with += {norms['+=']:.6f}, as the engine; with = {norms['=']:.6f}, {norms['='] / norms['+=']:.2g} of it")
    return norms


def walk(root, leaf, add):
    """Backpropagation in eight lines, printing what arrives at one leaf. With add=False it is the faulty one."""
    grad = {root.node: np.ones(root.shape)}
    for node in ancestors(root.node):
        dxs = node.backward(grad[node]) if node.op else ()
        for parent, dx in zip(node.parents, dxs, strict=True):
            if parent is not None:
                dx = unbroadcast(dx() if callable(dx) else dx, parent.shape)
                grad[parent] = grad[parent] + dx if add and parent in grad else dx
                if parent is leaf.node and add:
                    size, total = np.linalg.norm(dx), np.linalg.norm(grad[parent])
                    print(f"    from {node.op.name:10} comes {size:9.6f}   sum so far {total:9.6f}")
    return grad[leaf.node]


if __name__ == "__main__":
    run_lesson(main)
