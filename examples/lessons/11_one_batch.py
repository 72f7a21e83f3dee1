"""Lesson 11: overfit one batch, the first thing to try with a new model.

A model that cannot learn 64 random tokens by heart will not learn a language. The test takes seconds, it needs no data,
and the result is known: 0. The tokens are random, so nothing can be guessed: all of them must be stored in the weights,
and the gradients must be right enough to do that.

Beside the right model stand three with common faults. None of them raises an error, and in all of them the loss falls.
The test finds two of them: one cannot get below a floor; one is only slow, because the head alone can learn much by
heart. A curve far above the right model's is a finding as well.

    python examples/lessons/11_one_batch.py            # draws one_batch.png
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm import ops
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.programs import run_lesson

V, B, T, STEPS = 32, 4, 16, 200
tokens = np.random.default_rng(11).integers(0, V, (B, T + 1))
x, y = tokens[:, :-1], tokens[:, 1:]


def right(model):
    return ops.cross_entropy(model(x), y)


def softmax_twice(model):
    """cross_entropy takes logits. Probabilities lie between 0 and 1, so no prediction can ever be sure."""
    return ops.cross_entropy(ops.softmax(model(x)), y)


def cut_off(model):
    """Features cut off the graph: .detach() in the wrong place. Only the head learns, slowly, but no floor stops it."""
    return ops.cross_entropy(model.logits(model.features(x).detach()), y)


def not_shifted(model):
    """The inputs instead of the next tokens. This can be learned, too: the test shows that it learns, not what."""
    return ops.cross_entropy(model(x), x)


def main(out="."):
    floor = math.log(1 + (V - 1) / math.e)  # −log of the largest probability: e¹ / (e¹ + (V − 1) e⁰)
    curves = {}
    print(f"{y.size} random tokens of {V}: loss at the start, after a quarter of {STEPS} steps, half, all")
    for loss in (right, softmax_twice, cut_off, not_shifted):
        curve = curves[loss.__name__] = train(loss)
        print(f"  {loss.__name__:14}" + "".join(f"{value:10.4f}" for value in curve[[0, STEPS // 4, STEPS // 2, -1]]))
    print(f"  ln V = {math.log(V):.4f}; no softmax of a softmax gets below ln(1 + (V − 1)/e) = {floor:.4f}")

    # The test cannot show whether the task is the intended one. A model that looks into the future reaches 0 as well:
    # see lesson 7. Learning by heart, which is the aim here, is what a validation set would show.
    draw(Path(out, "one_batch.png"), curves, floor)
    return {"curves": curves, "floor": floor}


def train(loss):
    model = GPT(GPTConfig(V, T, n_layer=2, n_head=4, n_embd=32, tied=False))
    optimizer, losses = AdamW(model.parameters(), lr=3e-3, weight_decay=0.0), []
    for _ in range(STEPS):
        value = loss(model)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return np.array(losses)


def draw(path, curves, floor):
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="steps", ylabel="loss on the batch", title="One batch, over and over")
    for name, curve in curves.items():
        axes.semilogy(curve, label=name.replace("_", " "))
    for name, value, place in (("ln V", math.log(V), "bottom"), ("ln(1 + (V − 1)/e)", floor, "top")):
        axes.axhline(value, color="gray", linestyle="--", linewidth=0.8)
        axes.annotate(f"{name} = {value:.2f}", (STEPS, value), ha="right", va=place, size=8)
    axes.grid(alpha=0.2)
    axes.legend(loc="lower left")
    figure.savefig(path)
    print(f"{path}: the losses")


if __name__ == "__main__":
    run_lesson(main)
