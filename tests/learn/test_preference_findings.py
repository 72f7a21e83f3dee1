"""The doctor's findings from the log of a run on pairs: fine on a healthy one, and each turns at its fault."""

import math

import pytest
from made_logs import preference_log

from tinygrad_lm.learn.doctor.preference_findings import preference_findings

CHOSEN = "log-probability of the chosen answers"


def found(path, of_reward=False, **figures):
    return {finding.title: finding for finding in preference_findings(preference_log(path, **figures), of_reward)}


def test_a_healthy_run_is_fine_though_both_fall(tmp_path):
    findings = found(tmp_path)
    assert {finding.verdict for finding in findings.values()} == {"fine"}
    assert "both fell" in findings[CHOSEN].value
    assert "Both may fall while the loss does" in findings[CHOSEN].meaning


@pytest.mark.parametrize(
    ("chosen", "rejected", "verdict", "state"),
    [
        (-9.0, -20.0, "fine", "both fell"),
        (-10.5, -20.0, "look", "both fell"),
        (math.nan, -20.0, "wrong", ""),
        (1.0, -2.0, "fine", "the chosen rose, the rejected fell"),
        (2.0, 1.0, "fine", "both rose"),
    ],
)
def test_chosen_answers_that_become_improbable(chosen, rejected, verdict, state, tmp_path):
    finding = found(tmp_path, chosen=(0.0, chosen), rejected=(0.0, rejected))[CHOSEN]
    assert finding.verdict == verdict
    assert state in finding.value


def test_a_reward_models_scores_have_no_reference(tmp_path):
    assert CHOSEN not in found(tmp_path, of_reward=True, chosen=(0.0, -20.0))


@pytest.mark.parametrize(("start", "verdict"), [(math.log(2) + 5e-3, "look"), (0.9, "wrong"), (math.nan, "wrong")])
def test_the_first_loss_is_log_2(start, verdict, tmp_path):
    assert found(tmp_path, start=start)["loss at the start"].verdict == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.6, "fine"), (0.5, "look"), (0.4, "wrong")])
def test_pairs_in_the_wrong_order(share, verdict, tmp_path):
    assert found(tmp_path, accuracy=(0.5, share))["pairs in the right order"].verdict == verdict
