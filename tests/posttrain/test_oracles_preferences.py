"""O4 and O6: what preferences do and do not determine. That DPO reaches π*: oracles/preferences.py."""

import numpy as np
import pytest
from oracles.common import living
from oracles.preferences import distance, dpo_on_all_pairs, population
from tiny_world import SCORE, WORLD, minimise

from tinygrad_lm import ops
from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.posttrain.exact import Table, differentiate, optimum
from tinygrad_lm.posttrain.objectives import bradley_terry_loss, dpo_loss


def test_averaged_log_probabilities_have_another_optimum():
    """Divided by lengths, the same loss is as small as can be, at a policy that is not π*."""
    log_q, beta = living("gpt2", 1)[1].sum(1), 0.3
    star, _ = optimum(log_q, SCORE, beta)
    chance, floor = population(log_q, SCORE)
    table = Table(WORLD).become(log_q)
    assert minimise(table, lambda: dpo_on_all_pairs(table, log_q, chance, beta, WORLD.lengths)) < floor + 1e-10
    assert distance(table, star) > 0.1


def test_one_pair_that_is_always_labelled_alike_has_no_optimum():
    """Whatever β, the loss falls to 0 and the rejected answer's probability with it."""
    log_q = living("gpt2", 1)[1].sum(1)
    for beta in (0.1, 1.0):
        table, losses, rejected = Table(WORLD).become(log_q), [], []

        def loss(table=table, beta=beta):
            log_pi = WORLD.recorded(table).sum(axis=1)
            return dpo_loss(log_pi[[1]], log_pi[[2]], log_q[[1]], log_q[[2]], beta).sum()

        for _ in range(4):
            for _ in range(25):
                value, gradient = differentiate(table, loss)
                table.flat.data -= 10 / beta * gradient
            losses.append(value)
            rejected.append(np.exp(WORLD.log_probability(table)[2].sum()))
        assert (np.diff(losses) < 0).all()
        assert (np.diff(rejected) < 0).all()
        assert rejected[-1] < 0.01 * np.exp(log_q[2])


def test_two_items_differ_by_the_logarithm_of_their_odds():
    class Two(Module):
        def __init__(self):
            self.r = Parameter(2)
            self.initialize(dtype=np.float64)

    two = Two()

    def loss():
        first, second = two.r[:1], two.r[1:]
        return (30 * bradley_terry_loss(first, second) + 10 * bradley_terry_loss(second, first)).sum()

    minimise(two, loss)
    assert two.r.data[0] - two.r.data[1] == pytest.approx(np.log(30 / 10), abs=1e-10)
    assert two.r.data.sum() == pytest.approx(0, abs=1e-12)  # no label moves both


class Features(Module):
    """Three answers whose log-probabilities share two weights: chosen, rejected, and one in no pair."""

    F = np.array([[1.0, 0.0], [1.0, -0.5], [1.0, 1.5]])

    def __init__(self):
        self.w = Parameter(2)
        self.initialize(dtype=np.float64)

    def log_probability(self):
        return ops.log_softmax(ops.matmul(self.F, self.w.reshape(2, 1)).reshape(3))


def test_both_can_fall_while_the_loss_does():
    """d log π(y_w) = η β σ(−d) (f_w − E f)·(f_w − f_l) < 0 where the mass goes to a third answer."""
    model, beta = Features(), 0.1
    log_q = model.log_probability().numpy().copy()

    def loss():
        log_pi = model.log_probability()
        return dpo_loss(log_pi[:1], log_pi[1:2], log_q[:1], log_q[1:2], beta).sum()

    first, gradient = differentiate(model, loss)
    F, p = model.F, np.exp(log_q)
    predicted = beta * 0.5 * (F[0] - p @ F) @ (F[0] - F[1])
    assert predicted == pytest.approx(-0.00833, abs=1e-5)
    model.flat.data -= gradient
    assert model.log_probability().numpy()[0] - log_q[0] == pytest.approx(predicted, rel=0.05)
    for _ in range(399):
        last, gradient = differentiate(model, loss)
        model.flat.data -= gradient
    chosen, rejected, third = np.exp(model.log_probability().numpy())
    assert last < 0.5 < 0.693 < first
    assert chosen < 0.01
    assert rejected < 0.01
    assert third > 0.99
