"""Lesson 5: the two operations that a transformer is made of, derived entry by entry and checked.

The matrix product  y = a b:       y_ij = Σ_k a_ik b_kj    da = dy bᵀ,  db = aᵀ dy
The softmax  y = exp x / Σ exp x:  ∂y_i/∂x_j = y_i ([i = j] − y_j)    dx = y (dy − Σ y dy)

    python examples/lessons/05_product_and_softmax.py            # draws softmax.png
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm import Tensor, gradcheck, ops
from tinygrad_lm.programs import run_lesson

rng = np.random.default_rng(5)


def main(out="."):
    return {"product": product(), "softmax": softmax(Path(out, "softmax.png"))}


def product():
    """Every entry by its own derivative, then all at once."""
    a, b, dy = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=(2, 4))

    # a_ik has a part in y_ij for every j, with the factor b_kj. The chain rule adds over all j.
    da, db = np.zeros_like(a), np.zeros_like(b)
    for i, k, j in np.ndindex(2, 3, 4):
        da[i, k] += dy[i, j] * b[k, j]  # the sum over j of (row i of dy) times (row k of b): entry ik of dy bᵀ
        db[k, j] += a[i, k] * dy[i, j]  # the sum over i of (column k of a) times (column j of dy): entry kj of aᵀ dy

    left, right = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    (left @ right).backward(dy)
    errors = [
        abs(da - dy @ b.T).max(), abs(db - a.T @ dy).max(),
        abs(da - left.grad).max(), abs(db - right.grad).max(),
    ]  # fmt: skip
    print("Matrix product: the largest differences")
    print(f"  loops against dy bᵀ and aᵀ dy        {errors[0]:.1e}, {errors[1]:.1e}")
    print(f"  loops against the engine             {errors[2]:.1e}, {errors[3]:.1e}")
    report = gradcheck(ops.matmul, a, b, method="complex", verbose=False)
    print(f"  engine against a complex step        {report.worst:.1e}")
    print(f"The shapes nearly give the formula: da must be {a.shape}; of dy {dy.shape} and b {b.shape} only dy bᵀ is.")
    return errors


def softmax(path):
    """The Jacobian by a numerical derivative and by its formula, and the product with dy that never builds it."""
    x, dy = np.array([2.0, 1.0, 0.0, -1.0, -3.0]), rng.normal(size=5)
    y = np.exp(x) / np.exp(x).sum()

    # The quotient rule. exp x_i is in the numerator of y_i alone, which gives y_i [i = j]. And every exp x_j is in the
    # denominator of all y_i, which subtracts y_i y_j. Probabilities must sum to 1: what one gains, the others lose.
    J = np.diag(y) - np.outer(y, y)

    # Column j numerically: Im f(x + ih e_j) / h, the complex step, exact to rounding.
    h = 1e-30
    numerical = np.stack([ops.softmax(x + 1j * h * e).data.imag / h for e in np.eye(5)], axis=1)

    # dx_j = Σ_i dy_i ∂y_i/∂x_j = dy_j y_j − y_j Σ_i y_i dy_i. It has V numbers, J has V²; V is 50,257 in GPT-2.
    dx = y * (dy - (y * dy).sum())
    t = Tensor(x, requires_grad=True)
    ops.softmax(t).backward(dy)

    print("\nSoftmax: the largest differences")
    print(f"  Jacobian: formula against complex step {abs(J - numerical).max():.1e}")
    print(f"  y (dy − Σ y dy) against Jᵀ dy          {abs(dx - J.T @ dy).max():.1e}")
    print(f"  … against the engine                   {abs(dx - t.grad).max():.1e}")
    print(f"  each column's and each row's sum       {abs(J.sum(0)).max():.1e}, {abs(J.sum(1)).max():.1e}")
    print(f"  so dx sums to                          {abs(dx.sum()):.1e}")
    print(f"and a dy that is the same everywhere gives {abs(y * (7 - (y * 7).sum())).max():.1e}: x + c has the same y.")
    draw(path, x, y, J, dy, dx)
    return {"y": y, "J": J, "numerical": numerical, "dy": dy, "dx": dx, "engine": t.grad}


def draw(path, x, y, J, dy, dx):
    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.25, 1.2])
    places = np.arange(len(x))
    left.bar(places, y, color="tab:blue")
    left.set(title="y = softmax(x)", xlabel="j", ylabel="probability", xticks=places, ylim=(0, 1))
    for j, value in enumerate(x):
        left.annotate(f"x = {value:g}", (j, y[j]), ha="center", va="bottom", size=8)
    middle.imshow(J, cmap="RdBu_r", vmin=-2 * J.max(), vmax=2 * J.max())  # pale enough to read
    for i, j in np.ndindex(J.shape):
        middle.annotate(f"{J[i, j]:+.3f}", (j, i), ha="center", va="center", size=7)
    middle.set(title="∂y_i/∂x_j = y_i ([i = j] − y_j)", xlabel="j", ylabel="i", xticks=places, yticks=places)
    right.bar(places - 0.2, dy, 0.4, color="lightgray", label="dy, which arrives")
    right.bar(places + 0.2, dx, 0.4, color="tab:orange", label="dx = y (dy − Σ y dy)")
    right.axhline(0, color="black", linewidth=0.8)
    right.set(title="where y is small, dx is small", xlabel="j", xticks=places)
    right.legend()
    figure.savefig(path)
    print(f"{path}: the Jacobian as a picture")


if __name__ == "__main__":
    run_lesson(main)
