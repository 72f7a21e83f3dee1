"""Dropout: noise that keeps a network from leaning on single entries."""

import numpy as np

from tinygrad_lm.backend import array_module, random
from tinygrad_lm.engine.op import half_in_float32, op
from tinygrad_lm.errors import ConfigError


@op
@half_in_float32
def dropout(x, *, p, key):
    """y = x m / (1 − p)        dx = dy m / (1 − p)

    x: any shape

    m is 0 with probability p and 1 otherwise, a function of `key`, the arguments of `backend.random`: (seed, stream,
    step, ...). The division keeps the expected value (Srivastava et al. 2014).
    """
    m = keep(array_module(x), x.shape, p, key)
    scale = 1 / (1 - p)
    return x * m * scale, lambda dy: (dy * m * scale,)


MASKS = {}  # faster ways to draw the mask of `keep`, by device


def keep(xp, shape, p, key):
    """An array of booleans, True with probability 1 − p."""
    check_probability(p)
    if draw := MASKS.get("cpu" if xp is np else "cuda"):
        return draw(xp, shape, p, key)
    return xp.asarray(random(*key).random(shape, "float32") >= p)


def check_probability(p):
    if not 0 <= p < 1:
        raise ConfigError(f"p = {p} is no probability below 1")
