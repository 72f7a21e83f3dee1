"""The pictures of post-training runs: what is in them, and what is not."""

import numpy as np
import pytest
from made_logs import policy_log, preference_log
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from small_policy import policy_run

from tinygrad_lm.data.synthetic.speeches import best_gains, fewer_lines
from tinygrad_lm.posttrain.policy.pictures import POINTS, draw_policy, draw_preferences, thinned
from tinygrad_lm.posttrain.policy.policy_log import distinct
from tinygrad_lm.train.log import Log


@pytest.fixture
def drawn(monkeypatch):
    """A function to {title or labels: Axes} of the last picture, which is not rendered."""
    figures = []

    def keep(figure, path):
        figures.append(figure)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", keep)

    def panels():
        return {one.get_title() or f"{one.get_ylabel()}: {one.get_xlabel()}": one for one in figures[-1].axes}

    return panels


def numbers(axes):
    """All numbers along the vertical axis that lines and points are drawn at."""
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    points = [
        np.asarray(points.get_offsets())[:, 1] for points in axes.collections if isinstance(points, PathCollection)
    ]
    return np.concatenate([[], *lines, *points])


def test_a_policys_picture_has_the_reward_and_what_it_cost_but_no_surrogate(tmp_path, drawn):
    log = policy_log(tmp_path)
    frontier = [(0.0, 0.2), (1.0, 0.8), (4.0, 1.0)]
    draw_policy(log, tmp_path / "policy.png", "a title", frontier, {"all answers right": 1.0}, "1 − reward")
    panels = drawn()
    titles = {
        "held out: 1 − reward",
        "tokens per answer",
        "answers that end",
        "silent groups",
        "entropy, nats/token",
    }
    assert titles < set(panels)
    by_steps, by_kl = panels["reward: steps"], panels["reward: KL(π ‖ π_ref), nats per answer"]
    assert 1.0 in numbers(by_steps)
    assert {0.2, 0.8, 1.0} <= set(numbers(by_kl).tolist())
    assert 0.7 in numbers(by_steps)
    assert by_kl.get_xlim()[1] < 4  # as far as the run came
    assert by_kl.get_ylim()[1] > 0.85  # the frontier is seen there
    assert all(not (numbers(axes) == 777.0).any() for axes in panels.values())


def test_thinning_keeps_means_and_their_errors(tmp_path):
    draws = distinct(policy_log(tmp_path, steps=3 * POINTS))
    means = thinned(draws, ("step", "reward", "reward_error"))
    np.testing.assert_allclose(means["reward"], draws["reward"].reshape(POINTS, 3).mean(1))
    np.testing.assert_allclose(means["reward_error"], 0.03 / np.sqrt(3))
    np.testing.assert_allclose(means["step"], np.arange(1, 3 * POINTS + 1).reshape(POINTS, 3).mean(1))
    few = thinned(distinct(policy_log(tmp_path, steps=7)), ("step",))
    assert few["step"].tolist() == [*range(1, 8)]


@pytest.mark.slow
def test_a_log_without_steps_can_be_drawn(tmp_path):
    draw_policy(Log(tmp_path / "log.jsonl"), tmp_path / "policy.png", "nothing yet", [(0.0, 0.0), (1.0, 1.0)])
    draw_preferences(Log(tmp_path / "log.jsonl"), tmp_path / "preferences.png", "nothing yet")
    assert (tmp_path / "policy.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "preferences.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_preferences_has_floor_ceiling_and_both_answers(tmp_path, drawn):
    log = preference_log(tmp_path)
    draw_preferences(log, tmp_path / "preferences.png", "a title", {"entropy of the labels": 0.392}, 0.8)
    panels = drawn()
    assert 0.392 in numbers(panels["loss, nats per pair: steps"])
    assert 0.8 in numbers(panels["share of pairs in the right order: steps"])
    scores = panels["log π / π_ref, nats per answer: steps"]
    assert {-1.5, -3.0} <= set(numbers(scores).tolist())
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["chosen", "rejected"]


def test_a_policys_run_draws_it(tmp_path, drawn):
    """The frontier of a reward without a zero begins at the reward of the reference."""
    run = policy_run(tmp_path / "run", frontier=[[0.0, 0.0], [0.5, 0.25]])
    run.draw()
    assert (run.path / "policy.png").exists()
    start = -run.log.curve("validation")[1][0]
    assert {start, start + 0.25} <= set(numbers(drawn()["reward: KL(π ‖ π_ref), nats per answer"]).tolist())


def test_the_plays_frontier_has_the_slope_beta():
    """d gain / d KL = β at the Optimum of β: no policy near it does better (Lagrange)."""
    gains = np.array(best_gains())
    assert (np.diff(gains, axis=0) > 0).all()
    for beta in (0.5, 1.0, 4.0):
        near = [fewer_lines(beta * (1 + step)) for step in (1e-4, -1e-4)]
        slope = (near[1].lines - near[0].lines) / (near[0].kl - near[1].kl)
        assert slope == pytest.approx(beta, rel=1e-6)
    at_one = fewer_lines(1.0)
    assert np.interp(at_one.kl, *gains.T) == pytest.approx(fewer_lines(np.inf).lines - at_one.lines, rel=1e-6)
