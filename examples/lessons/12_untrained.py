"""Lesson 12: the loss of an untrained model is ln V.

A model that knows nothing gives each of V tokens the probability 1/V, and −log 1/V = ln V. Much more than that at
step 0 is a bug before the first gradient. How near a model is depends on the variance σ² of its first logits:

    L = log Σ exp x_j − x_t = ln V + (log mean exp x_j − x_t) ≈ ln V + σ²/2

because the logarithm of a mean of exponentials is the mean plus half the variance plus smaller terms, and x_t is on
average the mean, too, as long as the model knows nothing of t. For two logits a ± δ the excess is exactly log cosh δ =
δ²/2 − δ⁴/12 + …: that is why a loud head at V = 2 loses 0.51 more than ln V, not 0.69.

    python examples/lessons/12_untrained.py            # draws untrained.png
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tinygrad_lm import no_grad, ops
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.programs import run_lesson

SIZES = (2, 10, 65, 1000, 10000)
B, T, C = 4, 64, 64
CONFIG = GPTConfig(block_size=T, n_layer=2, n_head=4, n_embd=C, tied=False)
GPT2 = GPTConfig()  # the defaults are GPT-2's


def main(out="."):
    table = []
    print(
        f"{'V':>7}{'ln V':>10}   {'zero head':>12}   {'GPT-2 init':>12}{'σ²/2':>10}   {'ten times it':>12}{'σ²/2':>10}"
    )
    for V in SIZES:
        config = replace(CONFIG, vocab_size=V)
        # A head of zeros: all logits are 0, P is 1/V exactly.
        zero, _, _ = first_loss(GPT(replace(config, zero_init=True), dtype=np.float64))
        # GPT-2's weights have a standard deviation of 0.02. The head adds up C of them, on normalised features of mean
        # square 1: σ = 0.02 √C.
        gpt2, variance, measured = first_loss(GPT(config, dtype=np.float64))
        # Ten times that: the model is sure, knows nothing, and pays for it.
        loud = GPT(config, dtype=np.float64)
        loud.flat["lm_head.weight"].data *= 10
        large, large_variance, _ = first_loss(loud)
        table.append((V, zero, gpt2, variance, large, large_variance))
        zero, gpt2, large = (loss - math.log(V) for loss in (zero, gpt2, large))
        row = f"{V:7}{math.log(V):10.4f}   {zero:+12.1e}   {gpt2:+12.4f}{variance / 2:10.4f}"
        print(row + f"   {large:+12.4f}{large_variance / 2:10.4f}")
    print("The last five columns: how far the loss is above ln V, on average over all targets, and σ²/2 of the logits.")
    print(f"On {B * T} random targets GPT-2's first weights lose {measured:.4f} at V = {V}; ln V = {math.log(V):.4f}.")
    print(f"σ should be 0.02 √C = {0.02 * math.sqrt(C):.4f}; measured at V = {V}: {math.sqrt(variance):.4f}")
    excess = 0.02**2 * GPT2.n_embd / 2
    print(
        f"By this rule GPT-2 itself, with C = {GPT2.n_embd}, should start {excess:.3f} above ln {GPT2.vocab_size}:",
        end=" ",
    )
    print(f"at {math.log(GPT2.vocab_size) + excess:.2f}.")
    draw(Path(out, "untrained.png"), table)
    return {"table": table}


def first_loss(model):
    """The mean loss over all targets, the variance of the logits at a position, and the loss on random targets."""
    tokens = np.random.default_rng(12).integers(0, model.config.vocab_size, (B, T + 1))
    with no_grad():
        logits = model(tokens[:, :-1])
        # The mean over all V tokens as targets has none of the noise of a small batch.
        fair = -ops.log_softmax(logits).data.mean()
        return float(fair), float(logits.data.var(-1).mean()), ops.cross_entropy(logits, tokens[:, 1:]).item()


def draw(path, table):
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="vocabulary V", ylabel="loss before the first step", xscale="log")
    V, zero, gpt2, _, large, variance = map(np.array, zip(*table, strict=True))
    axes.plot(V, np.log(V), color="black", linewidth=1, label="ln V")
    axes.plot(V, np.log(V) + variance / 2, color="gray", linestyle="--", linewidth=1, label="ln V + σ²/2")
    axes.plot(V, zero, "o", markersize=10, markerfacecolor="none", label="head of zeros")
    axes.plot(V, gpt2, "x", markersize=7, label="GPT-2's first weights")
    axes.plot(V, large, "s", markersize=5, label="a head ten times as large")
    axes.set_title("What a model that knows nothing must lose")
    axes.grid(alpha=0.2)
    axes.legend()
    figure.savefig(path)
    print(f"{path}: the first losses")


if __name__ == "__main__":
    run_lesson(main)
