"""O3: the optimum π* ∝ π_ref exp(r/β), its value β log Z, and the frontier that no policy crosses."""

import numpy as np
import pytest
from oracles.common import living
from oracles.preferences import distance
from tiny_world import SCORE, WORLD, minimise

from tinygrad_lm.posttrain.exact import Table, frontier, kl, optimum

BETA = 0.5


@pytest.fixture(scope="module")
def reference():
    return living("gpt2", 1)[1].sum(1)


def test_nothing_moves_at_the_optimum_and_its_value_is_known(reference):
    star, value = optimum(reference, SCORE, BETA)
    assert np.exp(star).sum() == pytest.approx(1, abs=1e-14)
    J, gradient = WORLD.value(Table(WORLD).become(star), SCORE, reference, BETA)
    assert pytest.approx(value, abs=1e-14) == J
    assert abs(gradient).max() < 1e-14
    _, elsewhere = WORLD.value(Table(WORLD).become(reference), SCORE, reference, BETA)
    assert abs(elsewhere).max() > 0.01


def test_ascent_from_the_reference_arrives(reference):
    star, value = optimum(reference, SCORE, BETA)
    table = Table(WORLD).become(reference)

    def loss():
        log_pi = WORLD.recorded(table).sum(axis=1)
        return -(log_pi.exp() * (SCORE - BETA * (log_pi - reference))).sum()

    assert -minimise(table, loss) == pytest.approx(value, abs=1e-12)
    assert distance(table, star) < 1e-6


def test_no_policy_is_above_the_frontier(reference):
    """Random ones have less reward than the π* of their KL, which lies on a rising curve."""
    betas = np.geomspace(100, 0.02, 400)
    divergences, rewards = frontier(reference, SCORE, betas)
    assert (np.diff(divergences) > 0).all()
    assert (np.diff(rewards) > 0).all()
    rng, table, gaps = np.random.default_rng(8), Table(WORLD), []
    for _ in range(200):
        table.become(reference).logits.data += rng.uniform(0, 2) * rng.standard_normal(table.logits.shape)
        log_pi = WORLD.log_probability(table).sum(1)
        gaps.append(np.interp(kl(log_pi, reference), divergences, rewards) - np.exp(log_pi) @ SCORE)
    # Between two points the frontier, which is concave, lies above their chord: by less than 1e-4 on this grid.
    assert min(gaps) > -1e-4
    assert max(gaps) > 0.1


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_best_of_n(reference, n):
    """KL ≤ log n − (n − 1)/n (Beirami et al. 2024, theorem 1), and below the frontier."""
    order = np.argsort(SCORE)
    up_to = np.exp(reference)[order].cumsum()
    best = np.empty(len(SCORE))
    best[order] = np.diff(up_to**n, prepend=0.0)
    divergence = kl(np.log(best), reference)
    assert best.sum() == pytest.approx(1)
    assert divergence < np.log(n) - (n - 1) / n
    divergences, rewards = frontier(reference, SCORE, np.geomspace(100, 0.02, 400))
    assert best @ SCORE < np.interp(divergence, divergences, rewards) + 1e-4
