"""Dropout: noise that keeps a network from leaning on single entries. The page has none."""

import numpy as np

from tinygrad_lm.backend import array_module, integers, random
from tinygrad_lm.engine.op import op
from tinygrad_lm.engine.replaceable import replaceable
from tinygrad_lm.errors import ConfigError


@op
def dropout(x, *, p, key):
    """y = x m / (1 − p)        dx = dy m / (1 − p)

    x: any shape

    m is 0 with probability p and 1 otherwise, a function of `key`: see `keep`. The division keeps the expected value
    (Srivastava et al. 2014).
    """
    xp, m = array_module(x), keep(x, p, key)
    return xp.where(m, x / (1 - p), 0), lambda dy: (xp.where(m, dy / (1 - p), 0),)


@replaceable
def keep(x, p, key):
    """An array of booleans of x's shape, True with probability 1 − p.

    key: (seed, stream, step, row), the arguments of `backend.random`, where row is the number of x's first row in the
    batch of this step. Each row draws its own numbers, so they are the same however a batch is cut.
    """
    check_probability(p)
    seed, stream, *counter = key
    *step, row = integers(counter)
    shape = x.shape or (1,)
    rows = [random(seed, stream, *step, row + b).random(shape[1:], "float32") >= p for b in range(shape[0])]
    return array_module(x).asarray(np.array(rows, bool).reshape(x.shape))


def check_probability(p):
    """Raise ConfigError unless 0 ≤ p < 1."""
    if not 0 <= p < 1:
        raise ConfigError(f"p must be at least 0 and below 1, found {p}")
