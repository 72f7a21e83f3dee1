"""Lesson 7: attention, and a causal mask through which nothing passes from the future.

y = P v with P = softmax(q kᵀ/√D): position t takes a mean of all v_s, weighted by how well its query fits the keys. To
predict the next token it may use s ≤ t only. The mask sets the other scores to −∞ before the softmax:

    exp(−∞) = 0 exactly, so P_ts = 0, dv_s = Σ_t P_ts dy_t has no part from t, and dZ = P (dP − Σ P dP) is 0 there, too

Setting P to 0 after the softmax looks the same, but leaks: the future is still in its denominator.

    python examples/lessons/07_causal_mask.py            # draws causal_mask.png
"""

from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from tinygrad_lm import Tensor, ops
from tinygrad_lm.programs import run_lesson

T, C = 8, 16
rng = np.random.default_rng(7)
TOKENS = rng.normal(size=(T, C))
W_Q, W_K, W_V = rng.normal(size=(3, C, C)) / np.sqrt(C)
PAST = np.tri(T, dtype=bool)  # [t, s]: may t see s?


def no_mask(z, v):
    return ops.softmax(z) @ v


def mask_after_softmax(z, v):
    return (ops.softmax(z) * PAST.astype(float)) @ v


def mask_before_softmax(z, v):
    return ops.softmax(ops.where(PAST, z, -np.inf)) @ v


def attend(x, mask):
    """One head of self-attention: (T, C) -> (T, C)."""
    q, k, v = x @ W_Q, x @ W_K, x @ W_V
    return mask(q @ k.T / np.sqrt(C), v)


def main(out="."):
    print("How much does the output at t depend on the input at s? The norm of ∂(Σ y_t)/∂x_s, for s > t the largest:")
    maps = {}
    for mask in (no_mask, mask_after_softmax, mask_before_softmax):
        reach = maps[mask.__name__] = np.stack([gradient(t, mask) for t in range(T)])
        future = reach[~PAST]
        print(f"  {mask.__name__:20} {future.max():.3e}   {(future == 0).sum():2} of {future.size} are exactly 0")

    # The same as one operation: Z, P and their gradients are not nodes of the graph, and the numbers are the same.
    x = Tensor(TOKENS)
    q, k, v = ((x @ w).reshape(1, T, 1, C) for w in (W_Q, W_K, W_V))
    fused = ops.attention(q, k, v).data[0, :, 0]
    difference = float(abs(fused - attend(x, mask_before_softmax).data).max())
    print(f"  ops.attention gives the same values as the mask before the softmax, to {difference:.1e}")

    # Not small but 0, bit for bit: neither rounding nor learning opens that path. So a text of T tokens is T examples
    # at once, and no prediction has seen its answer.
    changed = TOKENS.copy()
    changed[5:] = rng.normal(size=(T - 5, C))
    before, after = (attend(Tensor(x), mask_before_softmax).data for x in (TOKENS, changed))
    same = [bool((before[t] == after[t]).all()) for t in range(T)]
    print("\nOther tokens from 5 on. Which outputs are the same, bit for bit?")
    print("  " + "  ".join(f"{t}: {'same' if s else 'other'}" for t, s in enumerate(same)))
    draw(Path(out, "causal_mask.png"), maps)
    return {"maps": maps, "difference": difference, "same": same}


def gradient(t, mask):
    """‖∂(Σ y_t)/∂x_s‖ for every s."""
    x = Tensor(TOKENS, requires_grad=True)
    attend(x, mask)[t].sum().backward()
    return np.linalg.norm(x.grad, axis=1)


def draw(path, maps):
    figure = Figure(figsize=(11, 4.3), dpi=120, layout="constrained")
    seen = np.concatenate([reach[reach > 0] for reach in maps.values()])
    norm = LogNorm(seen.min(), seen.max())
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (name, reach) in zip(panels, maps.items(), strict=True):
        image = axes.imshow(np.where(reach > 0, reach, np.nan), cmap="viridis_r", norm=norm)
        for t, s in np.argwhere(reach == 0):
            axes.annotate("0", (s, t), ha="center", va="center", color="gray", size=8)
        axes.set(title=name.replace("_", " "), xlabel="input s", xticks=range(T), yticks=range(T))
    panels[0].set_ylabel("output t")
    figure.colorbar(image, ax=panels, label="norm of ∂(Σ y_t)/∂x_s", shrink=0.8)
    figure.savefig(path)
    print(f"{path}: who sees whom; a grey 0 is exactly 0")


if __name__ == "__main__":
    run_lesson(main)
