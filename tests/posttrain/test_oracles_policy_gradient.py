"""O1: what the estimators climb in place of J. That they climb it: oracles/gradients.py."""

import numpy as np
import pytest
from oracles.common import expected, living, slope
from oracles.gradients import factor
from tiny_world import FAMILIES, ODD, WORLD, cosine

from tinygrad_lm.posttrain.policy.method import METHODS, Method


def test_the_factor_of_the_group_deviation():
    """Constant for two and three; the difficulty bias in one formula; 2 arcsin √p for large groups."""
    for p in (0.01, 0.3, 0.9):
        assert factor(2, p) == pytest.approx(np.sqrt(1 / 2))
        assert factor(3, p) == pytest.approx(np.sqrt(2 / 3) * np.sqrt(2))
    assert [round(factor(8, p) / np.sqrt(7 / 8), 3) for p in (0.01, 0.1, 0.5)] == [2.609, 2.328, 1.856]
    assert factor(900, 0.1) == pytest.approx(1 / np.sqrt(0.1 * 0.9), rel=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_divided_by_lengths_the_direction_is_wrong(family):
    """By its own or by the group's; by a constant it is right."""
    directions = []
    for method in (METHODS["grpo"], {"advantage": "centred", "length": "group"}, METHODS["dr-grpo"]):
        found = expected(family, ODD, Method(**method, group=3, limit=WORLD.limit))
        directions.append(cosine(found, slope(family, ODD)))
    own, group, constant = directions
    assert own < group < 0.9999 < 1 - 1e-12 < constant


@pytest.mark.parametrize("family", FAMILIES)
def test_with_one_right_answer_it_is_supervised_training_weighted_by_success(family):
    """∇P(success) = π(y*) ∇log π(y*)."""
    model, log_p = living(family)
    right = np.arange(len(ODD)) == 4
    weighted = np.exp(log_p[4].sum()) * WORLD.gradient(model, right)
    found = expected(family, right * 1.0, Method(group=2, limit=WORLD.limit))
    assert found == pytest.approx(weighted, abs=1e-12 * abs(weighted).max())
