"""O4 and O6: where DPO and a reward model come to rest, and which way a step of DPO moves."""

import numpy as np
from tiny_world import SCORE, SMALL, WORLD, minimise, model_of

from oracles.common import close, living, near, scored_model
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.posttrain import objectives, reward
from tinygrad_lm.posttrain.exact import Table, differentiate, optimum


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


def dpo_reaches_the_optimum(family):
    """Rafailov et al. 2023, section 4: the minimum over all policies is π*, and its loss the entropy of the labels."""
    beta = 0.3
    log_q = living(family, 1)[1].sum(1)
    table = Table(WORLD).become(log_q)
    star, _ = optimum(log_q, SCORE, beta)
    chance, floor = population(log_q, SCORE)
    loss, _ = differentiate(table, lambda: dpo_on_all_pairs(table, log_q, chance, beta))
    near(loss, np.log(2))
    found = minimise(table, lambda: dpo_on_all_pairs(table, log_q, chance, beta))
    assert abs(found - floor) < 1e-10, f"the loss is {found - floor:.1e} above the entropy of the labels"
    assert distance(table, star) < 1e-6, f"the total variation to π* is {distance(table, star):.1e}"


def over_all_pairs(model, chance, objective):
    """The mean of an objective over a population of pairs, and its gradient: one pair after the other.

    A batch of several has their mean.
    """
    several = np.argwhere(chance)[::7]
    loss, count = objective(several)
    assert count == len(several)
    near(loss.item(), np.mean([objective(pair[None])[0].item() for pair in several]))
    model.flat.zero_grad()
    total = 0.0
    for pair in np.argwhere(chance):
        loss, count = objective(pair[None])
        assert count == 1
        total += chance[tuple(pair)] * loss.item()
        loss.backward(np.asarray(chance[tuple(pair)]))
    return total, model.flat.grad.copy()


def dpo_rests_at_the_optimum(family):
    """With a GPT: where β log π/π_ref is what the labels are drawn by, the loss is their entropy and has no slope."""
    beta = 0.3
    model, other = model_of(family), model_of(family, 1)
    log_p, log_q = (SMALL.log_probability(m).sum(1) for m in (model, other))
    chance, floor = population(log_q, beta * (log_p - log_q))

    def objective(pairs):
        batch = SMALL.tokens[pairs], SMALL.targets[pairs], log_q[pairs]
        return objectives.dpo(model, batch, NONE, beta=beta)

    loss, gradient = over_all_pairs(model, chance, objective)
    near(loss, floor)
    _, of_one = differentiate(model, lambda: objective(np.array([[1, 4]]))[0])
    near(gradient, 0)
    assert abs(of_one).max() > 1e-3  # so 0 is no matter of course


def dpo_moves_both_to_first_order(family):
    """Δ log π(y) = η β σ(−d) ⟨∇log π(y), ∇log π(y_w) − ∇log π(y_l)⟩ of a step of descent, for all y: seen or not."""
    beta, chosen, rejected = 0.3, 4, 9
    model, log_q = model_of(family), living(family, 1)[1].sum(1)
    log_p = WORLD.log_probability(model).sum(1)
    rows = np.array([[chosen, rejected]])
    batch = WORLD.tokens[rows], WORLD.targets[rows], log_q[rows]
    slopes = np.stack([WORLD.gradient(model, np.eye(len(log_p))[row]) for row in range(len(log_p))])
    d = beta * ((log_p - log_q)[chosen] - (log_p - log_q)[rejected])
    predicted = beta / (1 + np.exp(d)) * slopes @ (slopes[chosen] - slopes[rejected])
    loss, gradient = differentiate(model, lambda: objectives.dpo(model, batch, NONE, beta=beta)[0])
    near(loss, np.log1p(np.exp(-d)))
    weights, moved = model.flat.data.copy(), []
    for eta in (1e-4, -1e-4):
        model.flat.data[...] = weights - eta * gradient
        moved.append(WORLD.log_probability(model).sum(1))
    close((moved[0] - moved[1]) / 2e-4, predicted, 1e-5)


def bradley_terry_is_the_maximum_likelihood(family):
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


def reward_model_rests_at_the_truth(family):
    """Where labels are drawn by the model's own scores, Bradley and Terry's loss is their entropy and has no slope."""
    model = scored_model(family)
    tokens, ends = reward.whole_answers(SMALL.tokens, SMALL.targets)
    with no_grad():
        scores = model.reward(tokens, ends).numpy()
    for row, response in enumerate(SMALL.responses):  # alone, without padding
        text = np.array([[*SMALL.prompt, *response]])
        with no_grad():
            alone = model.score(model.features(text)).numpy()[0, -1, 0]
        near(scores[row], alone)
    chance, floor = population(SMALL.log_probability(model).sum(1), scores)

    def objective(pairs):
        return objectives.bradley_terry(model, (tokens[pairs], ends[pairs]), NONE)

    loss, gradient = over_all_pairs(model, chance, objective)
    near(loss, floor)
    _, of_one = differentiate(model, lambda: objective(np.array([[1, 4]]))[0])
    near(gradient, 0)
    assert abs(of_one).max() > 1e-3  # so 0 is no matter of course


CHECKS = [
    dpo_reaches_the_optimum,
    dpo_rests_at_the_optimum,
    dpo_moves_both_to_first_order,
    bradley_terry_is_the_maximum_likelihood,
    reward_model_rests_at_the_truth,
]
