"""What must hold of the estimators of post-training, exactly, in the world of 15 responses. Each check raises if not.

The tests run them on the package's functions as they are, and on the same functions with a planted mistake
(tests/posttrain/test_oracles_mutants.py): so each check is known to be able to fail, and at what.

n responses, S positions, G responses a group, K groups
"""

from functools import cache
from itertools import product
from math import comb, sqrt

import numpy as np
from tiny_world import FAMILIES, ODD, SCORE, SMALL, WORLD, error, minimise, model_of

from tinygrad_lm import Tensor
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.posttrain import advantages, objectives, policy
from tinygrad_lm.posttrain.exact import Table, differentiate, kl, optimum
from tinygrad_lm.posttrain.method import METHODS, Method

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


# ---- O1: policy gradients


def slope(family, rewards):
    """∇J, by differentiating the sum over all responses."""
    return WORLD.value(model_of(family), rewards)[1]


def factor(G, p):
    """f_G(p) = √((G − 1)/G) E[√(m (1 − m))] / (p (1 − p)),  m = k/G,  k ~ Bin(G, p)

    For rewards 0 and 1 of mean p, an advantage (r − m)/σ has the mean (1 − p) f where r = 1, and −p f where r = 0. So
    dividing by the group's deviation climbs f_G(p) ∇p, which is ∇(2 arcsin √p) for large groups. The root is that of
    a deviation with G − 1.
    """
    m = np.arange(G + 1) / G
    chance = np.array([comb(G, k) * p**k * (1 - p) ** (G - k) for k in range(G + 1)])
    return sqrt((G - 1) / G) * float(chance @ np.sqrt(m * (1 - m))) / (p * (1 - p))


def leave_one_out_is_unbiased():
    """Ahmadian et al. 2024, "Back to basics", equation 7: E[g] = ∇J, whatever the rewards and the group."""
    for family in FAMILIES:
        for G in (2, 3):
            for scores in (ODD, SCORE):
                method = Method(**METHODS["rloo"], group=G, limit=WORLD.limit)
                close(expected(family, scores, method), slope(family, scores))


def centred_shrinks_by_its_own_share():
    """Liu et al. 2025, "Understanding R1-Zero-like training" (Dr. GRPO): E[g] = (1 − 1/G)/T ∇J."""
    for family in FAMILIES:
        for G in (2, 3):
            method = Method(**METHODS["dr-grpo"], group=G, limit=WORLD.limit)
            close(expected(family, SCORE, method), (1 - 1 / G) / WORLD.limit * slope(family, SCORE))


def standardised_climbs_by_the_factor():
    """Shao et al. 2024, "DeepSeekMath" (GRPO), without its division by lengths: E[g] = f_G(p) ∇p."""
    for family in FAMILIES:
        p = np.exp(living(family)[1].sum(1)) @ ODD
        for G in (2, 3, 4) if family == "gpt2" else (2, 3):
            method = Method("standardised", group=G, limit=WORLD.limit)
            close(expected(family, ODD, method), factor(G, p) * slope(family, ODD))


def own_lengths_climb_another_hill():
    """GRPO with 1/|y|: E[g] = f_G(p) ∇(E[r/|y|] − p E[1/|y|]), p held, which is not along ∇p."""
    for family in FAMILIES:
        p = np.exp(living(family)[1].sum(1)) @ ODD
        for G in (2, 3):
            method = Method(**METHODS["grpo"], group=G, limit=WORLD.limit)
            close(expected(family, ODD, method), factor(G, p) * slope(family, (ODD - p) / WORLD.lengths))


def lengths_of_the_group_by_hand():
    """DAPO's mean over the tokens of a group: E[g] group by group, for it has no closed form."""
    model, log_p = living("gpt2")
    pi, weights = np.exp(log_p.sum(1)), np.zeros(len(ODD))
    for y, other in product(range(len(ODD)), repeat=2):
        weights[y] += pi[y] * pi[other] * (ODD[y] - ODD[other]) / (WORLD.lengths[y] + WORLD.lengths[other])
    method = Method("centred", "group", group=2, limit=WORLD.limit)
    close(expected("gpt2", ODD, method), WORLD.gradient(model, weights))


def equal_rewards_teach_nothing():
    """No advantage but a rounding of the mean, which the group's deviation must not be divided by."""
    for value in (0.0, 1.0, 0.1, 1 / 3, -7.3):
        for G in (2, 3, 7):
            rewards = np.full((2, G), value)
            assert not advantages.standardised(rewards).any(), (value, G)
            for advantage in (advantages.leave_one_out, advantages.centred):
                assert abs(advantage(rewards)).max() <= 1e-15 * abs(value), (advantage.__name__, value, G)


# ---- O2: KL in the reward


def regularised(family, beta):
    """The gradient of Σ π r − β KL(π‖π_ref)."""
    return WORLD.value(model_of(family), SCORE, living(family, 1)[1].sum(1), beta)[1]


def rewards_of_tokens(family, beta):
    """The score at the last token, and −β log π/π_ref at each."""
    return advantages.kl_in_reward(SCORE, living(family)[1], living(family, 1)[1], WORLD.mask, beta)


def kl_in_the_reward_is_the_gradient_of_kl():
    """Detached in the reward, of the whole answer or to go, k1 = log π/π_ref gives E[g] = ∇(Σ π r − β KL(π‖π_ref))."""
    beta = 0.3
    for family in FAMILIES:
        method = Method(beta=beta, group=2, limit=WORLD.limit)
        close(expected(family, SCORE, method), regularised(family, beta))
        rewards = rewards_of_tokens(family, beta)
        assert not rewards[~WORLD.mask].any()
        to_go, _ = advantages.gae(rewards, np.zeros(rewards.shape), WORLD.mask, 1.0)
        close(WORLD.gradient(model_of(family), to_go * np.exp(living(family)[1].sum(1))[:, None]), regularised(family, beta))


def where_the_policy_is_the_optimum_nothing_moves():
    """For r = β log π/π_ref the policy is π*: all answers have the same regularised reward, so there is no advantage."""
    beta = 0.3
    for family in FAMILIES:
        log_p, log_q = living(family)[1], living(family, 1)[1]
        scores = beta * (log_p - log_q).sum(1)
        for name in ("rloo", "dr-grpo"):
            method = Method(**METHODS[name], beta=beta, group=5, limit=WORLD.limit)
            found, _ = learnt(method, scores, log_p, log_q, None, np.arange(15))
            assert abs(found).max() < 1e-14


def logged_estimates_of_kl_have_it_as_their_mean():
    """Schulman 2020, "Approximating KL divergence": k1 and k3 = e^−d − 1 + d are unbiased; and the entropy a token."""
    for family in FAMILIES:
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
            assert abs(found[name] - value) < 1e-12, name


# ---- O4, O6: preferences


def population(log_q, rewards):
    """The chance of each labelled pair, (n, n): two different responses from a policy, the first of them preferred.

    Bradley and Terry 1952: y is preferred to y′ with P = σ(r − r′). Also the entropy of these labels, in nats.
    """
    drawn = np.exp(log_q[:, None] + log_q[None])
    np.fill_diagonal(drawn, 0)
    P = 1 / (1 + np.exp(rewards[None] - rewards[:, None]))
    chance = 2 * drawn / drawn.sum() * P  # drawn in either order
    return chance, -(chance * np.log(P)).sum()


def dpo_on_all_pairs(model, log_q, chance, beta, length=1.0):
    """The mean DPO loss over the population, a Tensor; length: what divides the log-probabilities."""
    first, second = chance.nonzero()
    log_pi = WORLD.recorded(model).sum(axis=1) / length
    losses = objectives.dpo_loss(log_pi[first], log_pi[second], (log_q / length)[first], (log_q / length)[second], beta)
    return (losses * chance[first, second]).sum()


def distance(model, log_p):
    """The total variation between a model's responses and a distribution."""
    return abs(np.exp(WORLD.log_probability(model).sum(1)) - np.exp(log_p)).sum() / 2


def distance(model, log_p):
    """The total variation between a model's responses and a distribution."""
    return abs(np.exp(WORLD.log_probability(model).sum(1)) - np.exp(log_p)).sum() / 2


def dpo_reaches_the_optimum():
    """Rafailov et al. 2023, section 4: the minimum over all policies is π*, and its loss the entropy of the labels."""
    beta = 0.3
    log_q = living("gpt2", 1)[1].sum(1)
    table = Table(WORLD).become(log_q)
    star, _ = optimum(log_q, SCORE, beta)
    chance, floor = population(log_q, SCORE)
    loss, _ = differentiate(table, lambda: dpo_on_all_pairs(table, log_q, chance, beta))
    assert abs(loss - np.log(2)) < 1e-12
    found = minimise(table, lambda: dpo_on_all_pairs(table, log_q, chance, beta))
    assert abs(found - floor) < 1e-10, f"the loss is {found - floor:.1e} above the entropy of the labels"
    assert distance(table, star) < 1e-6, f"the total variation to π* is {distance(table, star):.1e}"


def over_all_pairs(model, world, chance, objective):
    """The mean of an objective over a population of pairs, and its gradient: one pair after the other."""
    model.flat.zero_grad()
    total = 0.0
    for pair in np.argwhere(chance):
        loss, count = objective(pair[None])
        assert count == 1
        total += chance[tuple(pair)] * loss.item()
        loss.backward(np.asarray(chance[tuple(pair)]))
    return total, model.flat.grad.copy()


def dpo_rests_at_the_optimum():
    """With a GPT: where β log π/π_ref is what the labels are drawn by, the loss is their entropy and has no slope."""
    beta = 0.3
    for family in FAMILIES:
        model, other = model_of(family), model_of(family, 1)
        log_p, log_q = (SMALL.log_probability(m).sum(1) for m in (model, other))
        chance, floor = population(log_q, beta * (log_p - log_q))

        def objective(pairs, model=model, log_q=log_q):
            batch = SMALL.tokens[pairs], SMALL.targets[pairs], log_q[pairs]
            return objectives.dpo(model, batch, NONE, beta=beta)

        loss, gradient = over_all_pairs(model, SMALL, chance, objective)
        assert abs(loss - floor) < 1e-12
        pair, _ = differentiate(model, lambda objective=objective: objective(np.array([[1, 4]]))[0])
        assert abs(gradient).max() < 1e-12 < 1e-3 < abs(model.flat.grad).max(), pair


def dpo_moves_both_to_first_order():
    """Δ log π(y) = η β σ(−d) ⟨∇log π(y), ∇log π(y_w) − ∇log π(y_l)⟩ of a step of descent, for all y: seen or not."""
    beta, chosen, rejected = 0.3, 4, 9
    for family in FAMILIES:
        model, log_q = model_of(family), living(family, 1)[1].sum(1)
        log_p = WORLD.log_probability(model).sum(1)
        rows = np.array([[chosen, rejected]])
        batch = WORLD.tokens[rows], WORLD.targets[rows], log_q[rows]
        slopes = np.stack([WORLD.gradient(model, np.eye(len(log_p))[row]) for row in range(len(log_p))])
        d = beta * ((log_p - log_q)[chosen] - (log_p - log_q)[rejected])
        predicted = beta / (1 + np.exp(d)) * slopes @ (slopes[chosen] - slopes[rejected])
        loss, gradient = differentiate(model, lambda m=model, b=batch: objectives.dpo(m, b, NONE, beta=beta)[0])
        assert abs(loss - np.log1p(np.exp(-d))) < 1e-12
        weights, moved = model.flat.data.copy(), []
        for eta in (1e-4, -1e-4):
            model.flat.data[...] = weights - eta * gradient
            moved.append(WORLD.log_probability(model).sum(1))
        close((moved[0] - moved[1]) / 2e-4, predicted, 1e-5)


def bradley_terry_is_the_maximum_likelihood():
    """Zermelo 1929; Hunter 2004, "MM algorithms for generalized Bradley–Terry models", equation 3."""
    rng = np.random.default_rng(3)
    strength = rng.standard_normal(6)
    wins = rng.binomial(40, 1 / (1 + np.exp(strength[None] - strength[:, None])))
    wins = np.tril(wins, -1) + np.tril(40 - wins, -1).T  # of the row against the column
    gamma = np.ones(6)
    for _ in range(2000):
        gamma = wins.sum(1) / ((wins + wins.T) / (gamma[:, None] + gamma[None])).sum(1)
        gamma /= gamma.sum()
    scores = Scores(6)
    better, worse = wins.nonzero()

    def loss():
        losses = objectives.bradley_terry_loss(scores.values[better], scores.values[worse])
        return (losses * wins[better, worse]).sum() / wins.sum()

    minimise(scores, loss, 1e-13)
    found = scores.values.data - scores.values.data.mean()
    close(found, np.log(gamma) - np.log(gamma).mean(), 1e-6)


class Scores(Module):
    """A score for each item."""

    def __init__(self, n):
        self.values = Parameter(n)
        self.initialize(dtype=np.float64)


# ---- O5: values and PPO


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


def gae_has_the_advantage_as_its_mean():
    """With exact V: E[GAE_λ | s, a] = A(s, a) and E[A + V | s] = V for every λ, so the gradient is exact, too."""
    beta = 0.2
    for family in FAMILIES:
        model, log_p = living(family)
        rewards = rewards_of_tokens(family, beta)
        V, A = exact_values(log_p, rewards)
        assert abs(given(prefixes(), log_p, A)).max() < 1e-14
        given_values = np.where(WORLD.mask, V, 1e3)  # what stands beside the answer must not matter
        for lam in (0.0, 0.5, 0.95, 1.0):
            found, returns = advantages.gae(rewards, given_values, WORLD.mask, lam)
            assert not found[~WORLD.mask].any()
            assert not returns[~WORLD.mask].any()
            close(given(choices(), log_p, found), A)
            close(given(prefixes(), log_p, returns), V)
            close(ascent(model, np.exp(log_p.sum(1))[:, None] * found), regularised(family, beta))


def gae_trusts_values_as_far_as_lambda_says():
    """With wrong V only λ = 1 is unbiased; and λ = 0 is R + V' − V, without a look ahead."""
    model, log_p = living("gpt2")
    rewards = rewards_of_tokens("gpt2", 0.2)
    V, _ = exact_values(log_p, rewards)
    wrong = V + np.random.default_rng(4).standard_normal(50)[prefixes()]
    pi, right = np.exp(log_p.sum(1))[:, None], regularised("gpt2", 0.2)
    off = [error(ascent(model, pi * advantages.gae(rewards, wrong, WORLD.mask, lam)[0]), right) for lam in (1, 0.95, 0)]
    assert off[0] < DIGITS < 1e-3 < off[1] < off[2], off


def surrogate_at_the_old_policy_is_the_policy_gradient():
    """Schulman et al. 2017, equation 6, at ratio 1: its gradient is ∇J, clipped or not."""
    for family in FAMILIES:
        model, log_p = living(family)
        pi, right = np.exp(log_p.sum(1))[:, None], slope(family, SCORE)
        for clip in (0.0, 0.2):
            close(ascent(model, pi * (SCORE - 0.7)[:, None] * WORLD.mask, clip=clip), right)


def ratios_have_the_mean_one():
    """E[ρ | s] = 1 under the old policy, wherever the new one is."""
    for family in FAMILIES:
        old, new = living(family)[1], living(family, 1)[1]
        ratio = objectives.surrogate(Tensor(new), old, np.ones(old.shape)).numpy()
        assert abs(given(prefixes(), old, ratio) - 1)[WORLD.mask].max() < 1e-12


def clipping_is_the_formula_on_both_sides():
    """Schulman et al. 2017, equation 7: min(ρ A, clip(ρ) A); no gradient where it would pay to go further still."""
    clip = 0.2
    for family in FAMILIES:
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


def values_descend_to_the_mean_return():
    """∂/∂V of ½ (V − R)² is V − R, so over all returns it rests at V = E[R | s]."""
    log_p = living("gpt2")[1]
    rewards = rewards_of_tokens("gpt2", 0.2)
    V, _ = exact_values(log_p, rewards)
    _, returns = advantages.gae(rewards, V, WORLD.mask, 1.0)
    scores = Tensor(V, requires_grad=True)
    losses = objectives.value_loss(scores, returns)
    close(losses.numpy(), (V - returns) ** 2 / 2, 1e-14)
    losses.backward(np.exp(log_p.sum(1))[:, None] * WORLD.mask)
    assert abs(given(prefixes(), log_p, scores.grad / np.exp(log_p.sum(1))[:, None])).max() < 1e-14
    assert abs(scores.grad).max() > 1e-3
