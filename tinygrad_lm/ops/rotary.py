"""Rotary position embedding: positions as angles. The page learns a vector for each position instead."""

import functools

import numpy as np

from tinygrad_lm.backend import array_module, is_floating
from tinygrad_lm.engine.op import op
from tinygrad_lm.errors import DtypeError, ShapeError, check_ranges


@op
def rotary(x, *, base=10000.0, start=0, scaling=()):
    """y = R(t) x        dx = R(−t) dy

    (B, T, H, D) -> (B, T, H, D), D even

    R(t) turns the pair of entries (i, i + D/2) by the angle t base^(−2i/D), where t = start, start + 1, … is the
    position. The product of a query at s with a key at t then depends on s − t alone. A rotation's transpose is its
    inverse, so the gradient turns by −t. Su et al. 2021, "RoFormer", equation 34, with Llama's pairing.
    scaling: see `angles`.
    """
    check_pairs(x)
    _, T, _, D = x.shape
    cos, sin = angles(array_module(x), T, D, base, start, scaling, x.real.dtype)
    return turn(x, cos, sin), lambda dy: (turn(dy, cos, -sin),)


def check_pairs(x):
    """x has the shape and the kind of numbers that rotary takes."""
    if x.ndim != 4 or x.shape[-1] % 2:
        raise ShapeError(f"expected four axes, the last of even size, found {x.shape}")
    if not is_floating(x.dtype):
        raise DtypeError(f"expected floating numbers to turn, found {x.dtype}")


def turn(x, cos, sin):
    """Rotate the pairs (x₁, x₂) of x's halves: (x₁ cos − x₂ sin, x₁ sin + x₂ cos)."""
    xp, half = array_module(x), x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    return xp.concatenate((x1 * cos - x2 * sin, x1 * sin + x2 * cos), -1)


def angles(xp, T, D, base, start, scaling, dtype):
    """cos and sin of all angles, (T, 1, D/2) each.

    scaling: none, or (factor, low, high, length) as Llama 3.1 stretches a context that it was pretrained with: what
    turns less than `low` times in `length` positions is slowed down by `factor`, what turns more than `high` times is
    left, and between them one goes over into the other (Llama Team 2024, "The Llama 3 herd of models").
    """
    length = 1 << (start + T - 1).bit_length()
    return tuple(table[start : start + T] for table in tables(xp, length, D, base, tuple(scaling), dtype))


SCALING = "(factor, low, high, length), all positive, with low below high"


def is_scaling(scaling):
    """Whether it is none, or SCALING."""
    return not scaling or (len(scaling) == 4 and all(0 < x < np.inf for x in scaling) and scaling[1] < scaling[2])


@functools.cache  # for good: a captured step reads them where they lay
def tables(xp, length, D, base, scaling, dtype):
    """cos and sin of the angles of positions 0 to length − 1, computed in float64."""
    check_ranges("angles", {"base": (base, "positive", base > 0), "scaling": (scaling, SCALING, is_scaling(scaling))})
    frequency = base ** (-2 / D * np.arange(D // 2))
    if scaling:
        factor, low, high, context = scaling
        keep = np.clip((context * frequency / (2 * np.pi) - low) / (high - low), 0, 1)
        frequency *= keep + (1 - keep) / factor
    angle = np.arange(length)[:, None, None] * frequency
    return xp.asarray(np.cos(angle), dtype), xp.asarray(np.sin(angle), dtype)
