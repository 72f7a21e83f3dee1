"""What the checks of post-training's estimators share: models of the world of 15 responses, and how gradients compare.

A check is a function of a model's family that raises if what it says does not hold of the package's functions. The
tests run each on the functions as they are, and on the same functions with a planted mistake: so it is known to be able
to fail, and at what (tests/posttrain/test_oracle_mutants.py).

n responses, S positions, G responses a group, K groups
"""

from functools import cache

import numpy as np
from tiny_world import SCORE, WORLD, error, model_of

from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain import objectives, reward
from tinygrad_lm.posttrain.exact import differentiate
from tinygrad_lm.posttrain.policy import advantages, policy

DIGITS = 1e-10


@cache
def living(family, seed=0):
    """A model, and log π(y_t | y_<t) (n, S)."""
    model = model_of(family, seed)
    return model, WORLD.log_probability(model)


def close(found, right, tolerance=DIGITS):
    """Raise if an entry is off by more than `tolerance` of the largest."""
    off = error(found, right)
    assert off < tolerance, f"off by {off:.1e} of the largest entry"


def near(found, right, tolerance=1e-12):
    """Raise if a number, or the one that is furthest off, is off by more than `tolerance`."""
    off = np.max(abs(np.asarray(found) - right))
    assert off < tolerance, f"off by {off:.1e}"


def ascent(model, weights, old=None, clip=0.0):
    """The gradient that policy_gradient ascends, for advantages whose mean over rows is Σ weights log π."""
    n = len(WORLD.responses)
    old = WORLD.log_probability(model) if old is None else old
    batch = WORLD.tokens, WORLD.targets, n * weights, old
    return -differentiate(model, lambda: objectives.policy_gradient(model, batch, NONE, clip=clip)[0])[1]


def learnt(method, scores, log_p, log_q, values, rows):
    """What learn_from makes of some responses by their numbers: each of its arrays (len(rows), S)."""
    values = None if values is None else values[rows]
    return policy.learn_from(method, scores[rows], log_p[rows], log_q[rows], values, WORLD.mask[rows])


def expected(family, scores, method):
    """The expectation of a method's gradient over all groups."""
    model, log_p = living(family)
    groups = WORLD.groups(method.group)
    weights, old = learnt(method, scores, log_p, living(family, 1)[1], None, groups.ravel())
    assert np.array_equal(old, log_p[groups.ravel()])
    weights = weights.reshape(*groups.shape, -1) / method.group
    return ascent(model, WORLD.expected_weights(log_p.sum(1), groups, weights))


def slope(family, rewards):
    """∇J, by differentiating the sum over all responses."""
    return WORLD.value(model_of(family), rewards)[1]


def regularised(family, beta):
    """The gradient of Σ π r − β KL(π‖π_ref)."""
    return WORLD.value(model_of(family), SCORE, living(family, 1)[1].sum(1), beta)[1]


def rewards_of_tokens(family, beta):
    """The score at the last token, and −β log π/π_ref at each."""
    return advantages.kl_in_reward(SCORE, living(family)[1], living(family, 1)[1], WORLD.mask, beta)


@cache
def scored_model(family):
    """A ScoredGPT with the weights of a model, and a head that says something."""
    model = reward.scored(model_of(family))
    model.flat[reward.HEAD].data = 0.3 * np.random.default_rng(6).standard_normal(model.flat[reward.HEAD].shape)
    return model
