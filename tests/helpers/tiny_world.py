"""A world of 15 responses and models of both families that live in it, in float64."""

import numpy as np
from small_gpt import shaken, tiny

from tinygrad_lm.posttrain.exact import World, differentiate

FAMILIES = "gpt2", "modern-tiny"  # learned positions, LayerNorm, biases, tied; rotary, RMSNorm, normalised q and k
WORLD = World(vocab_size=3, prompt=(1, 0), end=2, limit=3)
SMALL = World(vocab_size=3, prompt=(1, 0), end=2, limit=2)  # 7 responses, where all pairs are gone through
ODD = WORLD.rewards(lambda response: sum(response) % 2)  # a verifiable reward, 0 or 1
SCORE = ODD + 0.3 * np.random.default_rng(0).standard_normal(len(ODD))  # one with a value for every response


def model_of(family, seed=0):
    """A model that knows the world's ids and no others."""
    return shaken(tiny(family, vocab_size=WORLD.vocab_size, block_size=6), seed)


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def error(found, right):
    """The largest error, relative to the largest entry of what is right."""
    return float(abs(found - right).max() / abs(right).max())


def minimise(model, function, tolerance=1e-12, steps=500):
    """Descend on function() by BFGS, so that a minimum is found to many digits in few evaluations. Returns it.

    Nocedal and Wright 2006, "Numerical optimization", algorithm 6.1, with Armijo's condition.
    """
    w = model.flat.data
    H = np.eye(len(w))
    y, g = differentiate(model, function)
    for _ in range(steps):
        if abs(g).max() < tolerance:
            return y
        start, direction, t = w.copy(), -H @ g, 1.0
        while True:
            w[...] = start + t * direction
            new_y, new_g = differentiate(model, function)
            if new_y <= y + 1e-4 * t * (g @ direction) or t < 1e-10:
                break
            t /= 2
        s, d = w - start, new_g - g
        if s @ d > 0:
            rho = 1 / (s @ d)
            left = np.eye(len(w)) - rho * np.outer(s, d)
            H = left @ H @ left.T + rho * np.outer(s, s)
        y, g = new_y, new_g
    return y
