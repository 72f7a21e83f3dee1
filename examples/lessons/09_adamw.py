"""Lesson 9: gradient descent, momentum and AdamW in a narrow valley.

L = ½ (x² + 200 y²) is steep across and flat along. One learning rate must serve both: for y it must stay below 2/200,
or the steps grow; at such a rate x hardly moves.

    SGD        w ← w − η g
    momentum   m ← μ m + g,  w ← w − η m
    AdamW      w ← w − η (m̂ / (√v̂ + ε) + λ w), m̂ and v̂ the means of recent g and g²  (optim/adamw.py); here λ = 0

AdamW measures the size of each coordinate's recent gradients and divides by it. Turn the valley by 45°, and no
coordinate is the steep one: the gain is lost. The paths of the two others turn with the valley and stay the same.

    python examples/lessons/09_adamw.py            # draws adamw.png
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.programs import run_lesson

STEPS, START = 60, np.array([-4.0, 1.0])
STEEPNESS = np.array([1.0, 200.0])


class Point(Module):
    """Two parameters, and the loss at that point."""

    def __init__(self, turn):
        self.w = Parameter(2)
        self.initialize(dtype=np.float64)
        self.turn = turn
        self.w.data[...] = START @ turn

    def loss(self):
        x = (self.w[None] @ self.turn.T)[0]  # along the valley and across it
        return (STEEPNESS * x * x).sum() / 2


def sgd(point, lr=1.9 / 200):
    def step():
        point.w.data -= lr * point.w.grad

    return step


def momentum(point, lr=1.9 / 200, mu=0.8):
    m = np.zeros(2)

    def step():
        m[...] = mu * m + point.w.grad
        point.w.data -= lr * m

    return step


def adamw(point, lr=0.3):
    # Means over 5 and 20 steps. The usual betas, 0.9 and 0.999, are for thousands of steps with noise.
    return AdamW(point.parameters(), lr=lr, betas=(0.8, 0.95), weight_decay=0.0).step


def descend(optimizer, turn):
    """The positions and losses along a descent."""
    point = Point(turn)
    step, places, losses = optimizer(point), [], []
    for _ in range(STEPS + 1):
        loss = point.loss()
        places.append(point.w.data.copy())
        losses.append(loss.item())
        point.flat.zero_grad()
        loss.backward()
        step()
    return np.array(places), np.array(losses)


def main(out="."):
    angle = np.pi / 4
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    valleys = {"along the axes": np.eye(2), "turned by 45°": turned}
    runs = {v: {f.__name__: descend(f, turn) for f in (sgd, momentum, adamw)} for v, turn in valleys.items()}
    for valley, paths in runs.items():
        print(f"A valley {valley}: loss after {', '.join(map(str, range(0, STEPS + 1, 20)))} steps, and the first step")
        for name, (places, losses) in paths.items():
            x, y = places[1] - places[0]
            print(f"  {name:9}" + "".join(f"{loss:11.2e}" for loss in losses[::20]) + f"   ({x:+.3f}, {y:+.3f})")
    print("AdamW's first step is the learning rate in each coordinate, however large or small the gradient is there.")
    _, too_large = descend(lambda point: sgd(point, lr=2.1 / 200), np.eye(2))
    print(f"SGD with η = {2.1 / 200} instead of {1.9 / 200}: a loss of {too_large[0]:.3g} becomes {too_large[-1]:.3g}.")
    draw(Path(out, "adamw.png"), runs, valleys)
    return {"runs": runs, "too_large": too_large}


def draw(path, runs, valleys):
    figure = Figure(figsize=(11, 8.5), dpi=120, layout="constrained")
    grid = np.stack(np.meshgrid(np.linspace(-5, 2, 200), np.linspace(-4, 2, 200)), axis=-1)
    for (above, below), (valley, paths) in zip(figure.subplots(2, 2).T, runs.items(), strict=True):
        x = grid @ valleys[valley].T
        levels = 10.0 ** np.arange(-1, 4, 0.5)
        above.contour(
            *grid.T.swapaxes(1, 2), (STEEPNESS * x * x).sum(-1) / 2, levels, colors="lightgray", linewidths=0.8
        )
        for name, (places, losses) in paths.items():
            above.plot(*places.T, ".-", label=name, markersize=4, linewidth=1)
            below.semilogy(losses, label=name)
        above.plot(0, 0, "k*", markersize=9)
        above.set(title=f"A valley {valley}", xlabel="w₀", ylabel="w₁", xlim=(-5, 2), ylim=(-4, 2), aspect="equal")
        below.set(xlabel="step", ylabel="loss")
        below.grid(alpha=0.2)
        below.legend()
    figure.savefig(path)
    print(f"{path}: the paths and the losses")


if __name__ == "__main__":
    run_lesson(main)
