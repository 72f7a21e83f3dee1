"""Passes over long flat arrays, in blocks that stay in a core's cache, on all cores."""

import numpy as np

from tinygrad_lm.optim import adamw, muon
from tinygrad_lm.optim.clipping import scale, sum_of_squares
from tinygrad_lm.threads import in_blocks, parallel


@adamw.update.on("cpu", "float32", "float64")
def adamw_in_blocks(w, g, m, v, *numbers):
    """The definition of optim/adamw.py."""

    def update(here):
        adamw.update.definition(w[here], g[here], m[here], v[here], *numbers)

    in_blocks(update, w.size)


@muon.update_all.on("cpu", "float32", "float64")
def muon_on_all_cores(_, matrices, lr, momentum):
    """The definition of optim/muon.py, a matrix a core."""
    parallel(lambda matrix: muon.update(*matrix, lr, momentum), matrices)


@sum_of_squares.on("cpu", "float32", "float64")
def sum_of_squares_in_blocks(x):
    """The definition of optim/clipping.py; the blocks' sums are added in float64."""
    total = np.float64(sum(in_blocks(lambda here: float(np.vdot(x[here], x[here])), x.size)))
    return total if 0 < total < np.inf else NotImplemented  # the definition's squares are in float64


@scale.on("cpu", "float32", "float64")
def scale_in_blocks(x, factor):
    """The definition of optim/clipping.py."""

    def multiply(here):
        x[here] *= factor

    in_blocks(multiply, x.size)
