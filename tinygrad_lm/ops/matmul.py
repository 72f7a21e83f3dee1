"""Matrix products, where the time goes: 2nkm operations forward, twice that backward. The page's, for stacks too."""

import math

from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import ShapeError


@op
def matmul(a, b):
    """y = a b        da = dy bᵀ,  db = aᵀ dy

    (..., n, k) @ (..., k, m) -> (..., n, m)

    Where from: y_ij = Σ_k a_ik b_kj, so ∂y_ij/∂a_ik = b_kj. Each a_ik has a part in all of row i of y, and the chain
    rule adds over it: da_ik = Σ_j dy_ij b_kj, which is entry (i, k) of dy bᵀ. Likewise db_kj = Σ_i a_ik dy_ij.
    """
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(
            f"it needs at least two axes, found shapes {a.shape} and {b.shape}\n"
            "  hint : x[None, :] is a row, x[:, None] a column; (a * b).sum() is the product of two vectors"
        )
    if a.shape[-1] != b.shape[-2]:
        hint = "\n  hint : b.swapaxes(-1, -2) would fit" if a.shape[-1] == b.shape[-1] else ""
        raise ShapeError(f"inner dimensions differ: a.shape[-1] = {a.shape[-1]}, b.shape[-2] = {b.shape[-2]}{hint}")

    def backward(dy):
        da = lambda: dy @ b.swapaxes(-1, -2)
        db = lambda: a.swapaxes(-1, -2) @ dy
        return da, db

    return a @ b, backward


@op
def linear(x, w, b=None):
    """y = x w + b        dx = dy wᵀ,  dw = xᵀ dy,  db = Σ dy

    (..., i), (i, o)[, (o,)] -> (..., o)

    Unlike in matmul, all leading axes of x are rows of one matrix, so dw is one product over every position of the
    batch, where matmul would make one for each sequence and add them up afterwards.
    """
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[0]:
        raise ShapeError(f"inner dimensions differ: x.shape = {x.shape}, w.shape = {w.shape}")
    if b is not None and b.shape != w.shape[1:]:
        raise ShapeError(f"b has shape {b.shape}, one entry for each of the {w.shape[1]} outputs is expected")
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = rows @ w
    if b is not None:
        y += b
    return y.reshape(*x.shape[:-1], w.shape[1]), linear_backward(rows, w, b, x.shape)


def linear_backward(rows, w, b, shape):
    """dy -> dx of this shape, dw and db, where rows are those of x."""

    def backward(dy):
        dy = dy.reshape(len(rows), w.shape[1])
        dx = lambda: (dy @ w.T).reshape(shape)
        dw = lambda: rows.T @ dy
        return (dx, dw) if b is None else (dx, dw, dy)  # dy is summed to b's shape where broadcasting is undone

    return backward
