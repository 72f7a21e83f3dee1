"""Lesson 8: cross-entropy, and why its gradient is p − y.

The loss of one prediction is L = −log p_t, p = softmax(x), t the right token. Written out it is

    L = log Σ exp x_j − x_t        ∂L/∂x_j = exp x_j / Σ exp x − [j = t] = p_j − y_j

with y the one-hot target: what the model gave, less what it should have given.

    python examples/lessons/08_cross_entropy.py            # draws cross_entropy.png
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm import Tensor, ops
from tinygrad_lm.programs import run_lesson

WORDS = ["mat", "sofa", "dog", "moon"]
TARGET = 0
CASES = {
    "sure and right": [4.0, 1.0, 0.0, -1.0],
    "undecided": [0.0, 0.0, 0.0, 0.0],
    "sure and wrong": [-1.0, 1.0, 0.0, 4.0],
}


def main(out="."):
    print(f"“The cat sat on the …”; the right word is {WORDS[TARGET]!r}")
    y = np.eye(len(WORDS))[TARGET]
    cases = {}
    for name, logits in CASES.items():
        x = Tensor(np.array(logits), requires_grad=True)
        loss = ops.cross_entropy(x, np.array(TARGET))
        loss.backward()
        p = np.exp(x.data) / np.exp(x.data).sum()
        cases[name] = {"p": p, "gradient": x.grad, "loss": loss.item()}
        print(f"\n  {name}: loss {loss.item():.4f} = −log {p[TARGET]:.4f}, computed {-math.log(p[TARGET]):.4f}")
        print(" " * 11 + "".join(f"{word:>9}" for word in WORDS))
        for label, row in {"p": p, "y": y, "p − y": p - y, "x.grad": x.grad}.items():
            print(f"    {label:7}" + "".join(f"{value:9.4f}" for value in row))
        print(f"    the entries of p − y sum to {x.grad.sum():.0e}: probability is moved, not created")

    # How hard does each loss pull at the right token's logit? The gradient of a squared error on the probabilities,
    # Σ (p − y)², contains the softmax's Jacobian (lesson 5), which is nearly 0 wherever the softmax is sure, even if it
    # is wrong. The logarithm in cross-entropy cancels it.
    scores = np.linspace(-8, 8, 161)
    pulls = {"cross-entropy": [], "squared error": []}
    for score in scores:
        for pull, loss in zip(pulls.values(), (cross_entropy, squared_error), strict=True):
            x = Tensor(np.array([score, 0.0]), requires_grad=True)
            loss(x).backward()
            pull.append(float(x.grad[0]))
    print(f"\nTwo words, the right one's logit {-scores[0]:g} below the other's: ∂L/∂x_t is")
    for name, pull in pulls.items():
        print(f"  {name:15} {pull[0]:+.6f}")
    draw(Path(out, "cross_entropy.png"), cases, scores, pulls)
    return {"cases": cases, "scores": scores, "pulls": pulls}


def cross_entropy(x):
    return ops.cross_entropy(x, np.array(0))


def squared_error(x):
    return ((ops.softmax(x) - np.array([1.0, 0.0])) ** 2).sum()


def draw(path, cases, scores, pulls):
    figure = Figure(figsize=(11, 4.4), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2, 5)
    for column, (name, case) in enumerate(cases.items()):
        above, below = figure.add_subplot(grid[0, column]), figure.add_subplot(grid[1, column])
        above.bar(WORDS, case["p"], color="tab:blue")
        above.set(title=f"{name}\nloss {case['loss']:.2f}", ylim=(0, 1.05))
        below.bar(WORDS, case["gradient"], color="tab:orange")
        below.axhline(0, color="black", linewidth=0.8)
        below.set(ylim=(-1.05, 1.05))
        if not column:
            above.set_ylabel("p")
            below.set_ylabel("gradient p − y")
    axes = figure.add_subplot(grid[:, 3:], xlabel="logit of the right word less the other's", ylabel="∂L/∂x_t")
    for name, pull in pulls.items():
        axes.plot(scores, pull, label=name)
    axes.set_title("sure and wrong, on the left: which loss pulls?")
    axes.grid(alpha=0.2)
    axes.legend(loc="lower right")
    figure.savefig(path)
    print(f"{path}: p and p − y, and the pull of two losses")


if __name__ == "__main__":
    run_lesson(main)
