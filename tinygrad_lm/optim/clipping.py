"""The gradient's norm, and what is done where it is too large. On the page two lines of its optimizer."""

from tinygrad_lm.backend import Array, array_module
from tinygrad_lm.engine.replaceable import replaceable
from tinygrad_lm.errors import check_ranges
from tinygrad_lm.optim.optimizer import is_number


def clip_gradients(flat, max_norm: float, count: float = 1) -> Array:
    """Divide all gradients by `count`, and scale them so that their norm is then at most max_norm. Returns the norm.

    flat: a model's FlatParameters, model.flat. count: how many targets the sum of gradients is over, if it is
    to become the mean. max_norm 0: no limit, as for a norm that is not finite. The norm, before it is limited, is a 0-d
    array where the gradients are, because reading it would synchronise a GPU.
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    """
    check_ranges("clip_gradients", {"max_norm": (max_norm, "at least 0 and finite", is_number(max_norm))})
    xp = array_module(flat.grad)
    norm = xp.sqrt(sum_of_squares(flat.grad)) / count
    limit = xp.where(xp.isfinite(norm), max_norm / xp.maximum(norm, max_norm), 1) if max_norm else xp.ones_like(norm)
    scale(flat.grad, xp.asarray(limit / count, flat.grad.dtype))
    return norm


@replaceable
def sum_of_squares(x):
    """Σ x² of a flat array, as a 0-d array of float64, in which no square of a float32 number overflows."""
    x = x.astype("float64", copy=False)
    return (x * x).sum()


@replaceable
def scale(x, factor):
    """x ← factor x, in place. factor: a number, or a 0-d array where x is."""
    x *= factor
