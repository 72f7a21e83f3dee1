"""O1 and O2: what each estimator of a policy gradient climbs, by its expectation over all groups."""

from itertools import product
from math import comb, sqrt

import numpy as np
from tiny_world import ODD, SCORE, WORLD, model_of

from oracles.common import close, expected, learnt, living, near, regularised, rewards_of_tokens, slope
from tinygrad_lm.posttrain.exact import kl
from tinygrad_lm.posttrain.policy import advantages, policy
from tinygrad_lm.posttrain.policy.method import METHODS, Method

# ---- O1: advantages and lengths


def factor(G, p):
    """f_G(p) = √((G − 1)/G) E[√(m (1 − m))] / (p (1 − p)),  m = k/G,  k ~ Bin(G, p)

    For rewards 0 and 1 of mean p, an advantage (r − m)/σ has the mean (1 − p) f where r = 1, and −p f where r = 0. So
    dividing by the group's deviation climbs f_G(p) ∇p, which is ∇(2 arcsin √p) for large groups. The root is that of
    a deviation with G − 1.
    """
    m = np.arange(G + 1) / G
    chance = np.array([comb(G, k) * p**k * (1 - p) ** (G - k) for k in range(G + 1)])
    return sqrt((G - 1) / G) * float(chance @ np.sqrt(m * (1 - m))) / (p * (1 - p))


def leave_one_out_is_unbiased(family):
    """Ahmadian et al. 2024, "Back to basics", equation 7: E[g] = ∇J, whatever the rewards and the group."""
    for G in (2, 3):
        for scores in (ODD, SCORE):
            method = Method(**METHODS["rloo"], group=G, limit=WORLD.limit)
            close(expected(family, scores, method), slope(family, scores))


def centred_shrinks_by_its_own_share(family):
    """Liu et al. 2025, "Understanding R1-Zero-like training" (Dr. GRPO): E[g] = (1 − 1/G)/T ∇J."""
    for G in (2, 3):
        method = Method(**METHODS["dr-grpo"], group=G, limit=WORLD.limit)
        close(expected(family, SCORE, method), (1 - 1 / G) / WORLD.limit * slope(family, SCORE))


def standardised_climbs_by_the_factor(family):
    """Shao et al. 2024, "DeepSeekMath" (GRPO), without its division by lengths: E[g] = f_G(p) ∇p."""
    p = np.exp(living(family)[1].sum(1)) @ ODD
    for G in (2, 3, 4):
        method = Method("standardised", group=G, limit=WORLD.limit)
        close(expected(family, ODD, method), factor(G, p) * slope(family, ODD))


def own_lengths_climb_another_hill(family):
    """GRPO with 1/|y|: E[g] = f_G(p) ∇(E[r/|y|] − p E[1/|y|]), p held, which is not along ∇p."""
    p = np.exp(living(family)[1].sum(1)) @ ODD
    for G in (2, 3):
        method = Method(**METHODS["grpo"], group=G, limit=WORLD.limit)
        close(expected(family, ODD, method), factor(G, p) * slope(family, (ODD - p) / WORLD.lengths))


def lengths_of_the_group_by_hand(family):
    """DAPO's mean over the tokens of a group: E[g] group by group, for it has no closed form."""
    model, log_p = living(family)
    pi, weights = np.exp(log_p.sum(1)), np.zeros(len(ODD))
    for y, other in product(range(len(ODD)), repeat=2):
        weights[y] += pi[y] * pi[other] * (ODD[y] - ODD[other]) / (WORLD.lengths[y] + WORLD.lengths[other])
    method = Method("centred", "group", group=2, limit=WORLD.limit)
    close(expected(family, ODD, method), WORLD.gradient(model, weights))


def equal_rewards_teach_nothing(family):
    """No advantage but a rounding of the mean, which the group's deviation must not be divided by."""
    for value in (0.0, 1.0, 0.1, 1 / 3, -7.3):
        for G in (2, 3, 7):
            rewards = np.full((2, G), value)
            assert not advantages.standardised(rewards).any(), (value, G)
            for advantage in (advantages.leave_one_out, advantages.centred):
                assert abs(advantage(rewards)).max() <= 1e-15 * abs(value), (advantage.__name__, value, G)


# ---- O2: KL in the reward


def kl_in_the_reward_is_the_gradient_of_kl(family):
    """Detached in the reward, of the whole answer or to go, k1 = log π/π_ref gives E[g] = ∇(Σ π r − β KL(π‖π_ref))."""
    beta = 0.3
    method = Method(beta=beta, group=2, limit=WORLD.limit)
    close(expected(family, SCORE, method), regularised(family, beta))
    rewards = rewards_of_tokens(family, beta)
    near(rewards[~WORLD.mask], 0)
    to_go, _ = advantages.gae(rewards, np.zeros(rewards.shape), WORLD.mask, 1.0)
    pi = np.exp(living(family)[1].sum(1))[:, None]
    close(WORLD.gradient(model_of(family), pi * to_go), regularised(family, beta))


def where_the_policy_is_the_optimum_nothing_moves(family):
    """For r = β log π/π_ref the policy is π*: all answers have the same regularised reward, so no advantage."""
    beta = 0.3
    log_p, log_q = living(family)[1], living(family, 1)[1]
    scores = beta * (log_p - log_q).sum(1)
    for name in ("rloo", "dr-grpo"):
        method = Method(**METHODS[name], beta=beta, group=5, limit=WORLD.limit)
        found, _ = learnt(method, scores, log_p, log_q, None, np.arange(15))
        near(found, 0, 1e-14)


def logged_estimates_of_kl_have_it_as_their_mean(family):
    """Schulman 2020, "Approximating KL divergence": k1 and k3 = e^−d − 1 + d are unbiased; and the entropy a token."""
    log_p, log_q = living(family)[1], living(family, 1)[1]
    found = {"kl": 0.0, "kl3": 0.0, "reward": 0.0, "length": 0.0, "ended": 0.0}
    for row, chance in enumerate(np.exp(log_p.sum(1))):
        d, logp = np.stack([(log_p - log_q)[row]] * 2), np.stack([log_p[row]] * 2)
        mask, ended = np.stack([WORLD.mask[row]] * 2), np.full(2, WORLD.ended[row])
        facts = policy.facts_of(np.full(2, SCORE[row]), d, logp, mask, ended, 2)
        assert facts["silent"] == 1
        assert facts["reward_error"] == 0
        for name in found:
            found[name] += chance * facts[name]
    pi = np.exp(log_p.sum(1))
    right = {"kl": kl(log_p.sum(1), log_q.sum(1)), "kl3": kl(log_p.sum(1), log_q.sum(1))}
    right |= {"reward": pi @ SCORE, "length": pi @ WORLD.lengths, "ended": pi @ WORLD.ended}
    for name, value in right.items():
        near(found[name], value)


CHECKS = [
    leave_one_out_is_unbiased,
    centred_shrinks_by_its_own_share,
    standardised_climbs_by_the_factor,
    own_lengths_climb_another_hill,
    lengths_of_the_group_by_hand,
    equal_rewards_teach_nothing,
    kl_in_the_reward_is_the_gradient_of_kl,
    where_the_policy_is_the_optimum_nothing_moves,
    logged_estimates_of_kl_have_it_as_their_mean,
]
