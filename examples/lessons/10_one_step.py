"""Lesson 10: one whole training step of a tiny GPT, with its walk back printed.

Forward, cross-entropy, backward, update: the same four lines train every language model. Here the backward pass has one
line an operation, youngest first, with the size of the gradient that arrived and of those that it sent to its inputs;
and a line more for each parameter that is reached.

    python examples/lessons/10_one_step.py
"""

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.adamw import AdamW

TEXT = "to be or not to be"


def main(out="."):
    letters = sorted(set(TEXT))
    ids = np.array([[letters.index(letter) for letter in TEXT]])
    x, y = ids[:, :-1], ids[:, 1:]  # at every position the next letter is the target
    model = GPT(GPTConfig(len(letters), x.shape[1], n_layer=1, n_head=2, n_embd=8), dtype=np.float64)

    # 1. Forward: (1, T) tokens → (1, T, V) logits → one number.
    logits = model(x)
    loss = ops.cross_entropy(logits, y)
    print(f"{x.size} letters, {len(letters)} of them different, {model.parameters.data.size} parameters")
    print(f"forward: logits {logits.shape}, loss {loss.item():.6f}; ln V = {np.log(len(letters)):.6f} (lesson 12)\n")

    # 2. Backward. What `visit` sees is all there is: an operation, what arrived, what it sends on.
    sums, counts = {}, {}

    def visit(node, dy, dxs):
        counts[node.op.name] = counts.get(node.op.name, 0) + 1
        sent = ", ".join("–" if dx is None else f"{dx.shape} {np.linalg.norm(dx):.3g}" for dx in dxs)
        print(f"  {node.op.name:14}{dy.shape!s:14}{np.linalg.norm(dy):9.3g}  →  {sent}")
        for parent, dx in zip(node.parents, dxs, strict=True):
            if parent is not None and parent.op is None:
                before = sums.get(parent.name, np.zeros(parent.shape))
                sums[parent.name] = before + dx
                more = f" + {np.linalg.norm(before):.3g}: {np.linalg.norm(sums[parent.name]):.3g}" if before.any() else ""
                print(f"  {'':16}{parent.name} gets {np.linalg.norm(dx):.3g}" + more)

    print("  operation     shape of dy        size  →  shape and size of each dx")
    loss.backward(visit=visit)
    print("\nIt used", ", ".join(f"{name} {n} ×" if n > 1 else name for name, n in counts.items()))

    # The gradients are these sums, bit for bit: nothing else was ever added to them.
    assert all(np.array_equal(sums[name], p.grad) for name, p in model.parameters.items())
    print("Each parameter's gradient is the sum of what came to it, bit for bit.")

    # 3. What the gradient promises: a small step −η g changes the loss by −η ‖g‖².
    g, w, norm = model.parameters.grad.copy(), model.parameters.data, model.parameters.norm()
    print(f"\nThe gradient's norm is {norm:.6f}. A step of −η g should lower the loss by η ‖g‖²:")
    promises = []
    for η in (1e-1, 1e-2, 1e-3, 1e-4):
        before = w.copy()
        w -= η * g
        lower = loss.item() - ops.cross_entropy(model(x), y).item()
        w[...] = before
        promises.append((η, η * norm**2, lower))
        print(f"  η = {η:g}: promised {η * norm**2:.8f}, came {lower:.8f}, {lower / (η * norm**2):.4f} of it")
    print("The smaller the step the truer: a gradient knows the slope here, not how the surface bends.")

    # 4. Update. AdamW scales each entry of the step by the size of its gradient (lesson 9).
    AdamW(model.parameters, lr=1e-2).step()
    model.parameters.zero_grad()
    after = ops.cross_entropy(model(x), y).item()
    print(f"\nAfter one step of AdamW the loss is {after:.6f}.")
    return {"loss": loss.item(), "after": after, "sums": sums, "promises": promises, "counts": counts}


if __name__ == "__main__":
    main()
