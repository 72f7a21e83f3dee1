"""O5: how far the surrogate can be trusted when the policy moves away from the answers that were drawn."""

import numpy as np
from oracles.common import ascent, living, slope
from oracles.values import exact_values
from tiny_world import SCORE, WORLD, cosine, model_of

from tinygrad_lm.posttrain.policy import advantages


def test_the_further_away_the_less_its_direction_is_right():
    """At the policy that drew both are right; the clip stops what would pay most."""
    log_p = living("gpt2")[1]
    _, A = exact_values(log_p, advantages.kl_in_reward(SCORE, log_p, log_p, WORLD.mask, 0.0))
    model, direction, pi = model_of("gpt2"), slope("gpt2", SCORE), np.exp(log_p.sum(1))[:, None]
    start, free, clipped = model.flat.data.copy(), [], []
    for step in (0.0, 0.02, 0.05, 0.1):
        model.flat.data[...] = start + step * direction
        _, right = WORLD.value(model, SCORE)
        free.append(cosine(ascent(model, pi * A, log_p), right))
        clipped.append(cosine(ascent(model, pi * A, log_p, 0.2), right))
    assert min(free[0], clipped[0]) > 1 - 1e-12
    assert (np.diff(free) < 0).all()
    assert clipped[-1] < free[-1]
