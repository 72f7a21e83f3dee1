"""O1: the expected gradient over all groups, of each estimator, and what it climbs instead of J where it does."""

import numpy as np
import oracles
import pytest
from oracles import expected, factor, living, slope
from tiny_world import FAMILIES, ODD, WORLD, cosine

from tinygrad_lm.posttrain import advantages

CHECKS = [
    oracles.leave_one_out_is_unbiased,
    oracles.centred_shrinks_by_its_own_share,
    oracles.standardised_climbs_by_the_factor,
    oracles.own_lengths_climb_another_hill,
    oracles.equal_rewards_teach_nothing,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_estimator(check):
    check()


def test_the_factor_of_the_group_deviation():
    """Constant for two and three; the difficulty bias in one formula; 2 arcsin √p for large groups."""
    for p in (0.01, 0.3, 0.9):
        assert factor(2, p) == pytest.approx(np.sqrt(1 / 2))
        assert factor(3, p) == pytest.approx(np.sqrt(2 / 3) * np.sqrt(2))
    assert [round(factor(8, p) / np.sqrt(7 / 8), 3) for p in (0.01, 0.1, 0.5)] == [2.609, 2.328, 1.856]
    assert factor(900, 0.1) == pytest.approx(1 / np.sqrt(0.1 * 0.9), rel=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_normalised_by_lengths_the_direction_is_wrong(family):
    """Divided by its own length or by the group's tokens; by a constant it is right."""
    directions = {
        "own": cosine(expected(family, ODD, 3, advantages.standardised, lambda lengths: lengths), slope(family, ODD)),
        "group": cosine(
            expected(family, ODD, 3, advantages.centred, lambda lengths: lengths.sum(1, keepdims=True) / 3),
            slope(family, ODD),
        ),
        "constant": cosine(expected(family, ODD, 3, advantages.centred, lambda lengths: 3.0), slope(family, ODD)),
    }
    assert directions["own"] < directions["group"] < 0.9999 < 1 - 1e-12 < directions["constant"]


@pytest.mark.parametrize("family", FAMILIES)
def test_with_one_right_answer_it_is_supervised_training_weighted_by_success(family):
    """∇P(success) = π(y*) ∇log π(y*)."""
    model, log_p = living(family)
    right = np.arange(len(ODD)) == 4
    weighted = np.exp(log_p[4].sum()) * WORLD.gradient(model, right)
    found = expected(family, right * 1.0, 2, advantages.leave_one_out)
    assert found == pytest.approx(weighted, abs=1e-12 * abs(weighted).max())
