"""Lesson 4: broadcasting, undone. Why the gradient of a bias is a sum over rows.

y = x + b adds one row b to every row of x. NumPy computes it as if b had been copied, once for each row. So each entry
of b has a part in a whole column of y, and the chain rule adds over that column:

    y_ij = x_ij + b_j        db_j = Σ_i dy_ij ∂y_ij/∂b_j = Σ_i dy_ij

Copying's derivative is adding.

    python examples/lessons/04_broadcasting.py
"""

import numpy as np

from tinygrad_lm import Tensor
from tinygrad_lm.programs import run_lesson


def main(out="."):
    rng = np.random.default_rng(4)
    x, b = rng.normal(size=(4, 3)), Tensor(rng.normal(size=3), requires_grad=True)
    dy = rng.integers(-5, 6, (4, 3)).astype(float)  # as if the rest of the network had sent this back
    (x + b).backward(dy)

    print("dy, the gradient that arrives at y = x + b, and b's gradient, the sum of each column")
    for row in dy:
        print("  dy  " + numbers(row))
    print("      " + "-" * 27)
    print("  db  " + numbers(b.grad))

    # A nudge of b_j moves a whole column of y. The loss that sends back this dy is L = Σ dy y.
    def L(b):
        return (dy * (x + b)).sum()

    h = 1e-6
    nudged = [(L(b.data + h * e) - L(b.data - h * e)) / (2 * h) for e in np.eye(3)]
    print("  by a nudge of each b_j:")
    print("      " + numbers(nudged))

    # Copying is a matrix product with a column of ones, and a product a b has db = aᵀ dy (lesson 5): onesᵀ dy is a sum.
    ones = np.ones((4, 1))
    assert np.array_equal(x + ones @ b.data[None], x + b.data)
    product = Tensor(b.data[None], requires_grad=True)
    (ones @ product).backward(dy)
    print("  as onesᵀ dy:")
    print("      " + numbers(product.grad[0]))

    # A mean looks just as natural, but it is too small by the number of rows: b would learn more slowly by that factor.
    mean = dy.mean(0)
    print(f"\nA mean over the rows instead of the sum: {numbers(mean)}")
    print(f"  the sum divided by it:                  {numbers(b.grad / mean)}")

    # One rule for every shape: sum over the axes that were copied, those that are absent or of size 1.
    print("\nOther shapes that broadcast to (4, 3)")
    sums = {}
    for shape in [(4, 3), (3,), (1, 3), (4, 1), (1,), ()]:
        leaf = Tensor(np.zeros(shape), requires_grad=True)
        (x + leaf).backward(dy)
        copied = dy.size // leaf.size
        sums[shape] = leaf.grad
        print(f"  {shape!s:8} each entry was copied {copied:2} times   gradient {leaf.grad.astype(int).tolist()}")

    # And in reverse: adding's derivative is copying.
    leaf = Tensor(x, requires_grad=True)
    leaf.sum(axis=0).backward(np.array([1.0, 2.0, 3.0]))
    print("\nThe reverse: y = Σ_i x_ij sends each dy_j back to every row. With dy = [1, 2, 3], dx is")
    for row in leaf.grad:
        print("      " + numbers(row))
    return {"dy": dy, "db": b.grad, "nudged": nudged, "product": product.grad, "sums": sums, "copied": leaf.grad}


def numbers(row):
    return " ".join(f"{value:8.3f}" for value in row)


if __name__ == "__main__":
    run_lesson(main)
