"""The doctor's findings from the log of a policy gradient: fine on a healthy one, and each turns at its fault."""

import math

import numpy as np
import pytest
from made_logs import policy_log

from tinygrad_lm.learn.doctor.policy_findings import policy_findings


def verdicts(path, **figures):
    return {finding.title: finding.verdict for finding in policy_findings(policy_log(path, **figures))}


def turned(path, **figures):
    """The findings that are not fine."""
    return {title: verdict for title, verdict in verdicts(path, **figures).items() if verdict != "fine"}


def test_a_healthy_run_is_fine(tmp_path):
    assert turned(tmp_path) == {}


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"reward": (0.2, 0.2)}, "look"),
        ({"reward": (0.5, 0.2)}, "wrong"),
        ({"reward": [0.2, *[math.nan] * 59]}, "wrong"),
        ({"reward": [*np.linspace(0.2, 0.7, 40), *[0.3] * 20]}, "wrong"),  # collapsed, though above where it began
        ({"reward": [*np.linspace(0.2, 0.7, 40), *[0.5] * 20]}, "fine"),
        ({"reward": (0.2, 0.23), "reward_error": (0.1, 0.1)}, "look"),  # within the noise
    ],
)
def test_the_reward(figures, expected, tmp_path):
    assert verdicts(tmp_path, **figures)["reward"] == expected


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ((0.0, 9.0), "fine"),
        ((0.0, 12.0), "look"),
        ([0.0, *[math.inf] * 59], "wrong"),
        ((0.1, 2.0), "wrong"),  # the reference is not the model that it began with
        ((0.0, -0.4), "wrong"),  # the answers are not the policy's
        ([0.0, *[0.3, -0.32] * 29, 0.3], "fine"),  # noise around 0
    ],
)
def test_the_kl_divergence(kl, expected, tmp_path):
    assert verdicts(tmp_path, kl=kl)["KL divergence from the reference"] == expected


@pytest.mark.parametrize(("last", "expected"), [(0.95, "fine"), (0.8, "look"), (0.3, "wrong"), (math.nan, "wrong")])
def test_answers_that_do_not_end(last, expected, tmp_path):
    assert verdicts(tmp_path, ended=[1.0] * 54 + [last] * 6)["answers that end"] == expected


@pytest.mark.parametrize(
    ("silent", "reward", "expected"),
    [
        ((0.3, 0.8), (0.2, 0.7), "fine"),
        ([0.3] * 54 + [0.95] * 6, (0.2, 0.7), "look"),
        ([0.3] * 54 + [1.0] * 6, (0.2, 1.0), "look"),  # solved
        ((1.0, 1.0), (0.0, 0.0), "wrong"),
        ([0.3] * 54 + [1.0] * 6, (0.2, 0.0), "wrong"),
    ],
)
def test_silent_groups(silent, reward, expected, tmp_path):
    assert verdicts(tmp_path, silent=silent, reward=reward)["groups without signal"] == expected


@pytest.mark.parametrize(
    ("length", "pull", "kl", "expected"),
    [
        ((34.0, 12.6), -0.3, 2.66, "look"),  # legal speeches of the play, which become one short line
        ((34.0, 12.6), 0.3, 2.66, "fine"),  # shorter in spite of the reward
        ((34.0, 12.6), 0.05, 2.66, "fine"),
        ((34.0, 12.6), -0.3, 0.5, "fine"),  # near the reference, where an answer may be as short
        ((34.0, 28.0), -0.3, 2.66, "fine"),
        ((20.0, 200.0), 0.4, 3.0, "wrong"),
        ((20.0, 50.0), 0.4, 14.0, "wrong"),
    ],
)
def test_length_hacking(length, pull, kl, expected, tmp_path):
    found = verdicts(tmp_path, length=length, length_reward=(pull, pull), kl=(0.0, kl))
    assert found["length of the answers"] == expected


def test_every_finding_says_what_to_do(tmp_path):
    for finding in policy_findings(policy_log(tmp_path)):
        assert finding.meaning.endswith(".")
        assert finding.advice.endswith(".")
        assert "surrogate" not in finding.value
        assert "777" not in finding.value
