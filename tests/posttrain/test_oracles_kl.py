"""O2: estimators of KL(π‖π_ref): what their mean is, and what their gradient is where they are part of the loss.

They are known as k1 = d, k2 = d²/2 and k3 = e^−d − 1 + d, d = log π − log π_ref, of a whole answer or of each token
(Schulman 2020, "Approximating KL divergence"). A loss is differentiated at given answers; that π draws them is not.
"""

import numpy as np
import pytest
from oracles.common import close, living
from tiny_world import FAMILIES, WORLD, error

from tinygrad_lm import ops
from tinygrad_lm.posttrain.exact import differentiate, kl

KINDS = {"k1": lambda d: d, "k2": lambda d: d * d / 2, "k3": lambda d: ops.exp(-d) - 1.0 + d}


def both(family):
    """log π and log π_ref of the tokens, and π of the answers."""
    (_, log_p), (_, log_q) = living(family), living(family, 1)
    return log_p, log_q, np.exp(log_p.sum(1))


def of_answers(family, kind):
    """The expected gradient of an estimator of whole answers as a loss."""
    model, (_, log_q, pi) = living(family)[0], both(family)
    return differentiate(model, lambda: (pi * KINDS[kind](WORLD.recorded(model).sum(axis=1) - log_q.sum(1))).sum())[1]


def of_tokens(family, kind):
    """The same a token. At other positions d is 0, and so are all three."""
    model, (_, log_q, pi) = living(family)[0], both(family)
    return differentiate(model, lambda: (pi[:, None] * KINDS[kind](WORLD.recorded(model) - log_q)).sum())[1]


def slope_of_kl(family):
    """∇KL(π‖π_ref)."""
    model, (_, log_q, pi) = living(family)[0], both(family)
    return -WORLD.value(model, np.zeros(len(pi)), log_q.sum(1), 1.0)[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_values_of_k1_and_k3_are_right_on_average(family):
    log_p, log_q, pi = both(family)
    right = kl(log_p.sum(1), log_q.sum(1))
    for d, name in ((log_p - log_q).sum(1, keepdims=True), "answers"), (log_p - log_q, "tokens"):
        means = {"k1": pi @ d.sum(1), "k2": pi @ (d**2 / 2).sum(1), "k3": pi @ (np.exp(-d) - 1 + d).sum(1)}
        assert means["k1"] == pytest.approx(right, abs=1e-13), name
        assert means["k3"] == pytest.approx(right, abs=1e-13), name
        assert abs(means["k2"] - right) > 0.01, name


@pytest.mark.parametrize("family", FAMILIES)
def test_k1_in_the_loss_is_no_penalty_at_all(family):
    """E[∇log π] = 0."""
    for gradient in (of_answers(family, "k1"), of_tokens(family, "k1")):
        assert abs(gradient).max() < 1e-14 < 1e-3 < abs(slope_of_kl(family)).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_k2_of_answers_has_the_right_gradient(family):
    """E[d ∇log π], though its value is wrong."""
    close(of_answers(family, "k2"), slope_of_kl(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_k3_of_answers_has_the_gradient_of_the_other_kl(family):
    """E[(1 − e^−d) ∇log π] = −Σ π_ref ∇log π = ∇KL(π_ref‖π): its closed form."""
    model, (_, log_q, _) = living(family)[0], both(family)
    close(of_answers(family, "k3"), -WORLD.gradient(model, np.exp(log_q.sum(1))))
    assert error(of_answers(family, "k3"), slope_of_kl(family)) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_k3_of_tokens_is_the_other_kl_where_the_policy_goes(family):
    """GRPO as published: E over prefixes from π of ∇KL(π_ref(·|s)‖π(·|s)), who visits them held. All ids by hand."""
    model, (_, _, pi) = living(family)[0], both(family)
    reference = ops.softmax(living(family, 1)[0](WORLD.tokens)).numpy()
    weights = reference * (pi[:, None] * WORLD.mask)[..., None]
    _, gradient = differentiate(model, lambda: -(ops.log_softmax(model(WORLD.tokens)) * weights).sum())
    close(of_tokens(family, "k3"), gradient)
    assert error(of_tokens(family, "k3"), slope_of_kl(family)) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_weighted_by_the_ratio_it_is_the_kl_of_tokens_but_not_of_answers(family):
    """∇(ρ k3) = ∇k3 + k3 ∇log π, a token: on average k2's gradient, ∇KL(π(·|s)‖π_ref(·|s)) at prefixes from π.

    What no loss sees is that the policy decides which prefixes it visits.
    """
    model, (log_p, log_q, pi) = living(family)[0], both(family)

    def loss():
        d = WORLD.recorded(model) - log_q
        return (pi[:, None] * ops.exp(d + log_q - log_p) * KINDS["k3"](d)).sum()

    _, weighted = differentiate(model, loss)
    close(weighted, of_tokens(family, "k2"))
    assert error(weighted, slope_of_kl(family)) > 0.05
