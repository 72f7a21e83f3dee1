"""What a step's log says of its answers: facts_of, standard_error and correlation."""

import math

import numpy as np
import pytest

from tinygrad_lm.posttrain.policy.policy import correlation, facts_of, standard_error


def test_the_standard_error_is_the_spread_of_the_mean():
    """Over many steps, with prompts of unlike difficulty: answers to one prompt are no independent draws."""
    rng = np.random.default_rng(0)
    chances = rng.beta(0.4, 0.4, (4000, 16, 1))  # 4,000 steps of 16 prompts × 8 answers
    rewards = (rng.random((4000, 16, 8)) < chances).astype(float)
    spread = rewards.mean(axis=(1, 2)).std()
    claimed = np.sqrt(np.mean([standard_error(step) ** 2 for step in rewards]))
    assert claimed == pytest.approx(spread, rel=0.05)
    as_if_independent = np.sqrt(np.mean(rewards.reshape(4000, -1).var(axis=1, ddof=1) / 128))
    assert as_if_independent < 0.6 * spread


def test_the_standard_error_of_few():
    assert standard_error(np.array([[0.0, 1.0, 1.0, 0.0]])) == pytest.approx(np.sqrt(1 / 3) / 2)
    assert standard_error(np.array([[0.0], [1.0]])) == pytest.approx(0.5)
    assert math.isnan(standard_error(np.array([[1.0]])))


def test_reward_by_length_is_compared_within_groups():
    """Longer answers are better within each prompt, though prompts with long answers have less reward."""
    length, scores = np.array([1, 2, 3, 11, 12, 13]), np.array([5.0, 6.0, 7.0, 0.0, 1.0, 2.0])
    assert correlation(length, scores, 3) == pytest.approx(1)
    assert correlation(length, scores, 6) < 0
    assert correlation(length, -scores, 3) == pytest.approx(-1)
    assert correlation(length, np.ones(6), 3) == 0.0
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    assert correlation(a, b, 50) == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_the_facts_of_a_group_of_one_are_compared_with_all():
    mask = np.arange(5) < np.array([[2], [4], [5], [3]])
    zeros = np.zeros((4, 5))
    facts = facts_of(np.array([0.0, 1.0, 1.0, 0.0]), zeros, zeros, mask, np.ones(4, bool), 1)
    assert facts["length_reward"] == pytest.approx(np.corrcoef([2, 4, 5, 3], [0, 1, 1, 0])[0, 1])
    assert facts["length"] == 3.5
    assert facts["silent"] == 0.0
