"""O5: values, advantages from them, and PPO's surrogate."""

import numpy as np
from tiny_world import SCORE, WORLD, error

from oracles.common import (
    DIGITS,
    ascent,
    close,
    learnt,
    living,
    near,
    regularised,
    rewards_of_tokens,
    scored_model,
    slope,
)
from tinygrad_lm import Tensor
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain import objectives
from tinygrad_lm.posttrain.exact import Table, differentiate
from tinygrad_lm.posttrain.policy import advantages
from tinygrad_lm.posttrain.policy.method import Method


def exact_values(log_p, rewards):
    """V(prefix) and A(prefix, token) at each token, (n, S): means of the return over all responses that pass there."""
    returns = np.where(WORLD.mask, rewards[:, ::-1].cumsum(1)[:, ::-1], 0.0)
    return given(prefixes(), log_p, returns), given(choices(), log_p, returns) - given(prefixes(), log_p, returns)


def prefixes():
    """The number of the prefix at each position, (n, S)."""
    return Table(WORLD).rows(WORLD.tokens)


def choices():
    """The number of the prefix and the token that follows it, (n, S)."""
    return WORLD.vocab_size * prefixes() + WORLD.targets % WORLD.vocab_size


def given(where, log_p, x):
    """E[x | where], (n, S): the mean of x over all responses, at the positions with the same number; 0 elsewhere."""
    pi = np.exp(log_p.sum(1))[:, None] * WORLD.mask
    sums, mass = (np.bincount(where.ravel(), (pi * y).ravel()) for y in (x, np.ones(x.shape)))
    return np.where(WORLD.mask, sums[where] / np.where(mass > 0, mass, 1)[where], 0.0)


def gae_has_the_advantage_as_its_mean(family):
    """With exact V: E[GAE_λ | s, a] = A(s, a) and E[A + V | s] = V for every λ, so the gradient is exact, too."""
    beta = 0.2
    model, log_p = living(family)
    rewards = rewards_of_tokens(family, beta)
    V, A = exact_values(log_p, rewards)
    near(given(prefixes(), log_p, A), 0)
    given_values = np.where(WORLD.mask, V, 1e3)  # what stands beside the answer must not matter
    for lam in (0.0, 0.5, 0.95, 1.0):
        found, returns = advantages.gae(rewards, given_values, WORLD.mask, lam)
        near(found[~WORLD.mask], 0)
        near(returns[~WORLD.mask], 0)
        close(given(choices(), log_p, found), A)
        close(given(prefixes(), log_p, returns), V)
        close(ascent(model, np.exp(log_p.sum(1))[:, None] * found), regularised(family, beta))


def gae_trusts_values_as_far_as_lambda_says(family):
    """With wrong V only λ = 1 is unbiased; and λ = 0 is R + V' − V, without a look ahead."""
    model, log_p = living(family)
    rewards = rewards_of_tokens(family, 0.2)
    V, _ = exact_values(log_p, rewards)
    wrong = V + np.random.default_rng(4).standard_normal(50)[prefixes()]
    pi, right = np.exp(log_p.sum(1))[:, None], regularised(family, 0.2)
    off = [error(ascent(model, pi * advantages.gae(rewards, wrong, WORLD.mask, lam)[0]), right) for lam in (1, 0.95, 0)]
    assert off[0] < DIGITS < 1e-3 < off[1] < off[2], f"off by {off}, expected 0, more, and more still"


def surrogate_at_the_old_policy_is_the_policy_gradient(family):
    """Schulman et al. 2017, equation 6, at ratio 1: its gradient is ∇J, clipped or not."""
    model, log_p = living(family)
    pi, right = np.exp(log_p.sum(1))[:, None], slope(family, SCORE)
    for clip in (0.0, 0.2):
        close(ascent(model, pi * (SCORE - 0.7)[:, None] * WORLD.mask, clip=clip), right)


def ratios_have_the_mean_one(family):
    """E[ρ | s] = 1 under the old policy, wherever the new one is."""
    old, new = living(family)[1], living(family, 1)[1]
    ratio = objectives.surrogate(Tensor(new), old, np.ones(old.shape)).numpy()
    near(given(prefixes(), old, ratio)[WORLD.mask], 1)


def clipping_is_the_formula_on_both_sides(family):
    """Schulman et al. 2017, equation 7: min(ρ A, clip(ρ) A); no gradient where it would pay to go further still."""
    clip = 0.2
    model, log_p = living(family)
    old = living(family, 1)[1]
    A = np.where(WORLD.mask, np.random.default_rng(5).standard_normal(old.shape), 0.0)
    rho = np.exp(log_p - old)
    cases = [(side & sign & WORLD.mask).sum() for side in (rho > 1.2, rho < 0.8) for sign in (A > 0, A < 0)]
    assert min(cases) > 0, cases
    found = objectives.surrogate(Tensor(log_p), old, A, clip).numpy()
    close(found, np.minimum(rho * A, np.clip(rho, 1 - clip, 1 + clip) * A), 1e-14)
    beyond = (rho > 1 + clip) & (A > 0) | (rho < 1 - clip) & (A < 0)
    pi = np.exp(old.sum(1))[:, None]
    for epsilon, kept in ((clip, ~beyond), (0.0, True)):
        right = WORLD.gradient(model, pi * rho * A * kept)
        close(ascent(model, pi * A, old, epsilon), right)


def values_descend_to_the_mean_return(family):
    """∂/∂V of ½ (V − R)² is V − R, so over all returns it rests at V = E[R | s]."""
    log_p = living(family)[1]
    rewards = rewards_of_tokens(family, 0.2)
    V, _ = exact_values(log_p, rewards)
    _, returns = advantages.gae(rewards, V, WORLD.mask, 1.0)
    scores = Tensor(V, requires_grad=True)
    losses = objectives.value_loss(scores, returns)
    close(losses.numpy(), (V - returns) ** 2 / 2, 1e-14)
    losses.backward(np.exp(log_p.sum(1))[:, None] * WORLD.mask)
    near(given(prefixes(), log_p, scores.grad / np.exp(log_p.sum(1))[:, None]), 0)
    assert abs(scores.grad).max() > 1e-3


def ppo_is_both_gradients(family):
    """With λ = 1, whatever the values: −∇J of the policy, and c ∇ Σ π ½ (V − R)² of the values, π held."""
    beta, c = 0.2, 0.7
    model, log_q = scored_model(family), living(family, 1)[1]
    with no_grad():
        log_p, values = (x.numpy() for x in model.log_probability_and_values(WORLD.tokens, WORLD.targets))
    close(log_p, living(family)[1], 1e-13)
    method = Method("gae", beta=beta, lam=1.0, group=1, limit=WORLD.limit, clip=0.2, value_weight=c)
    batch = WORLD.tokens, WORLD.targets, *learnt(method, SCORE, log_p, log_q, values, np.arange(len(SCORE)))
    pi = np.exp(log_p.sum(1))

    def over_the_policy():
        """Response by response, because the objective's mean is over rows, whatever their probability."""
        total = 0.0
        for row in range(len(pi)):
            loss, count = objectives.ppo(model, [x[row : row + 1] for x in batch], NONE, clip=0.2, value_weight=c)
            assert count == 1
            total = total + loss * pi[row]
        return total

    _, gradient = differentiate(model, over_the_policy)
    to_go = np.where(WORLD.mask, rewards_of_tokens(family, beta)[:, ::-1].cumsum(1)[:, ::-1], 0.0)

    def of_values():
        values = model.score(model.features(WORLD.tokens)).reshape(WORLD.mask.shape)
        return (0.5 * c * pi[:, None] * WORLD.mask * (values - to_go) ** 2).sum()

    _, of_head = differentiate(model, of_values)
    _, of_policy = WORLD.value(model, SCORE, log_q.sum(1), beta)
    close(gradient, of_head - of_policy)


CHECKS = [
    gae_has_the_advantage_as_its_mean,
    gae_trusts_values_as_far_as_lambda_says,
    surrogate_at_the_old_policy_is_the_policy_gradient,
    ratios_have_the_mean_one,
    clipping_is_the_formula_on_both_sides,
    values_descend_to_the_mean_return,
    ppo_is_both_gradients,
]
