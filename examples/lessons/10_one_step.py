"""Lesson 10: one whole training step of a tiny GPT, with its backward pass printed.

Read examples/minimal.py first: this is one turn of its loop, by the package. Forward, cross-entropy, backward, update:
the same four lines train every language model. `trace` observes the backward pass and keeps a ledger of it. It is
printed with one line per operation, youngest first: the module it belongs to, the size of the gradient that arrived,
and the sizes of those passed to its inputs; and one line for each parameter reached.

    python examples/lessons/10_one_step.py
"""

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.programs import run_lesson

TEXT = "to be or not to be"


def main(out="."):
    letters = sorted(set(TEXT))
    ids = np.array([[letters.index(letter) for letter in TEXT]])
    x, y = ids[:, :-1], ids[:, 1:]  # at every position the next letter is the target
    model = GPT(GPTConfig(len(letters), x.shape[1], n_layer=1, n_head=2, n_embd=8), dtype=np.float64)
    print(f"{x.size} letters, {len(letters)} of them different, {model.flat.data.size} parameters")

    # 1. Forward: (1, T) tokens → (1, T, V) logits → one number. 2. Backward.
    def forward():
        return ops.cross_entropy(model(x), y)

    ledger = trace(forward)
    loss = forward().item()
    print(f"loss {loss:.6f}; ln V = {np.log(len(letters)):.6f} (lesson 12)\n")
    walk(ledger)

    # In the residual stream, at each add, the gradient passes unchanged: so depth does not wear it out. The part from a
    # branch is small at first, because GPT-2's weights start small. And the keys' bias gets only rounding errors: it
    # adds the same q·b to all scores of a query, and a softmax does not see a constant (lesson 5).
    for leaf in ledger.leaves:
        came = sum(input.contribution.array for _, input in ledger.uses(leaf.number))
        assert np.array_equal(came, model.flat[leaf.name].grad)
    print("\nEach parameter's gradient is the sum of all that reached it, bit for bit. One step in full:\n")
    print(ledger.where(op="attention"))

    # 3. What the gradient promises: a small step −η g changes the loss by −η ‖g‖².
    g, w, norm = model.flat.grad.copy(), model.flat.data, np.linalg.norm(model.flat.grad)
    print(f"\nThe gradient's norm is {norm:.6f}. A step of −η g should lower the loss by η ‖g‖²:")
    promises, first = [], w.copy()
    for η in (1e-1, 1e-2, 1e-3, 1e-4):
        w[...] = first - η * g
        promises.append((η, η * norm**2, loss - forward().item()))
        print("  η = {:<7g} promised {:.8f}, came {:.8f}".format(*promises[-1]))
    w[...] = first
    print("The smaller the step, the more exact: a gradient is the slope here, it does not know how the surface bends.")

    # 4. Update. AdamW divides each entry of the step by the size of its recent gradients (lesson 9).
    optimizer = AdamW(model.parameters(), lr=1e-2)
    optimizer.step()
    optimizer.zero_grad()
    after = forward().item()
    print(f"\nAfter one step of AdamW the loss is {after:.6f}.")
    return {"loss": loss, "after": after, "promises": promises, "ledger": ledger, "model": model}


def walk(ledger):
    names = {leaf.number: leaf.name for leaf in ledger.leaves}
    print(f"{'':4}{'module':18}{'operation':15}{'shape of dy':14}{'‖dy‖':>9}  →  ‖dx‖ of each input")
    for step in ledger.steps:
        sizes = ", ".join(f"{input.contribution.norm:.3g}" for input in step.inputs if input.contribution)
        print(f"{step.number:3} {step.module:18}{step.op:15}{step.shape!s:14}{step.incoming.norm:9.3g}  →  {sizes}")
        for input in step.inputs:
            if input.number in names:
                more = f"; it had {input.before.norm:.3g}, now {input.after.norm:.3g}" if input.before.norm else ""
                print(f"{'':22}{names[input.number]} gets {input.contribution.norm:.3g}{more}")


if __name__ == "__main__":
    run_lesson(main)
