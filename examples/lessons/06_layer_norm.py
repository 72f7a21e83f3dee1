"""Lesson 6: layer norm, and what its backward pass removes.

x̂ = (x − μ)/σ takes two things out of x: its mean and its size. The output does not depend on them, so no gradient can
ask x to change them: the parts of the arriving gradient along the directions 1 and x̂ are removed.

    dx = (g − mean g − x̂ mean(g x̂))/σ

    python examples/lessons/06_layer_norm.py            # draws layer_norm.png
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm import Tensor, ops
from tinygrad_lm.programs import run_lesson

C, EPS = 8, 1e-5
x = np.array([0.4, -1.1, 2.0, 0.3, -0.7, 1.2, -2.2, 0.9]) * 3 + 5


def main(out="."):
    y = norm(x)
    print("Forward: what layer norm does not see")
    print(f"  x + 100 changes y by at most    {abs(norm(x + 100) - y).max():.1e}")
    print(f"  10 x changes y by at most       {abs(norm(10 * x) - y).max():.1e}, the trace of eps = {EPS}")

    σ = np.sqrt(x.var() + EPS)
    one, xhat = np.ones(C), y
    other = np.zeros(C)
    other[:2] = 1, -1
    for direction in (one, xhat):  # keep the part at right angles to both
        other -= direction * (other @ direction) / (direction @ direction)

    print(f"\nBackward: the size of dx for a g of size 1 in three directions. 1/σ = {1 / σ:.6f}")
    sizes = {}
    for name, g in {"1": one, "x̂": xhat, "a third, at right angles": other}.items():
        sizes[name] = float(np.linalg.norm(backward(x, g / np.linalg.norm(g))))
        print(f"  g along {name:25} {sizes[name]:.2e}")
    print(f"  x̂ keeps eps/σ³ = {EPS / σ**3:.2e}: only the eps under the root still sees the size of x.")

    # Any g is a sum of the three kinds, and the rule is linear. Remove two parts and divide the rest by σ: that is dx.
    g = np.random.default_rng(6).normal(size=C)
    along_one = one * (g @ one) / C  # mean g
    along_xhat = xhat * (g @ xhat) / C  # x̂ mean(g x̂), because x̂ has C entries of mean square 1
    dx = backward(x, g)
    print("\nAny g, split into its parts")
    rest = g - along_one - along_xhat
    parts = {"g": g, "mean g": along_one, "x̂ mean(g x̂)": along_xhat, "rest": rest, "rest / σ": rest / σ}
    for name, part in (parts | {"dx, the engine": dx}).items():
        print(f"  {name:14} " + " ".join(f"{value:+.3f}" for value in part) + f"   norm {np.linalg.norm(part):.4f}")
    print(f"  dx has no part along 1 and x̂: Σ dx = {dx.sum():.1e}, Σ dx x̂ = {(dx * xhat).sum():.1e}")

    # 1/σ in front: the larger x, the smaller the gradient. And a step along dx is at right angles to x − μ, so it can
    # only make σ larger (Pythagoras), and the next gradient smaller.
    share = np.linalg.norm(backward(10 * x, g)) / np.linalg.norm(dx)
    print(f"  an x that is 10 times as large gets {share:.4f} times that gradient")
    print(f"  σ is {x.std():.4f}; of x − 2 dx it is {(x - 2 * dx).std():.4f}, of x + 2 dx {(x + 2 * dx).std():.4f}")

    J = np.stack([backward(x, e) for e in np.eye(C)])  # row i: the gradient of y_i
    draw(Path(out, "layer_norm.png"), J, σ)
    return {"sizes": sizes, "J": J, "g": g, "dx": dx, "xhat": xhat, "sigma": float(σ)}


def norm(x):
    return ops.layer_norm(x, eps=EPS).data


def backward(x, g):
    """The engine's gradient of x when g arrives."""
    t = Tensor(x, requires_grad=True)
    ops.layer_norm(t, eps=EPS).backward(g)
    return t.grad


def draw(path, J, σ):
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    image = left.imshow(J, cmap="RdBu_r", vmin=-abs(J).max(), vmax=abs(J).max())
    left.set(title="Jacobian of x̂ = (x − μ)/σ", xlabel="j", ylabel="i")
    figure.colorbar(image, ax=left)
    right.bar(range(1, C + 1), np.linalg.svd(J, compute_uv=False), color="tab:blue")
    right.axhline(1 / σ, color="gray", linestyle="--", linewidth=1)
    right.annotate(f"1/σ = {1 / σ:.3f}", (C + 0.4, 1 / σ), ha="right", va="bottom")
    right.annotate("x̂ and 1:\nlost", (C - 0.5, 0.01), ha="center", va="bottom")
    right.set(title=f"its singular values: {C - 2} directions pass, two do not", xlabel="which", ylim=(0, 1.15 / σ))
    figure.savefig(path)
    print(f"{path}: the Jacobian and its singular values")


if __name__ == "__main__":
    run_lesson(main)
