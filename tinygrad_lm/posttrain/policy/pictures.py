"""The pictures of post-training runs: what rewards cost, and what preferences taught.

The loss of a policy gradient is in neither: its value says nothing about how good the answers are.
"""

import numpy as np

from tinygrad_lm.posttrain.policy.policy_log import distinct
from tinygrad_lm.train.drawing import GREY, finish, horizontal, picture, smoothed, training_curve

BLUE, ORANGE, GREEN = "C0", "C1", "C2"  # training; held out; what is known
POINTS = 30  # of a curve, at most: one step alone is too noisy
SMALL = {  # the small panels of a policy's picture
    "length": "tokens per answer",
    "ended": "answers that end",
    "silent": "silent groups",
    "entropy": "entropy, nats/token",
}


def draw_policy(log, path, title, frontier=None, levels=None, measure="validation"):
    """Draw a policy run: reward against steps, reward against the KL divergence, and small panels.

    frontier: [(KL, reward), …] of the best policies, where they are known; levels: {label: reward}, such as a ceiling;
    measure: what an evaluation measures
    """
    draws = distinct(log)
    means = thinned(draws, ("step", "reward", "reward_error", "kl"))
    with picture(path, title, (13, 8.5)) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=(5, 3))
        left, right = above.subplots(1, 2)
        against_steps(left, draws, means, levels or {})
        against_kl(right, means, frontier)
        first, *others = below.subplots(1, 1 + len(SMALL))
        evaluations(first, log, measure)
        for axes, (name, label) in zip(others, SMALL.items(), strict=True):
            smoothed(axes, draws["step"], draws[name])
            top = max(draws[name] if name in ("length", "entropy") else [1.0], default=1.0)
            axes.set_ylim(-0.04 * top, 1.08 * top)
            finish(axes, title=label)


def against_steps(axes, draws, means, levels):
    """Reward with its standard error, and lines at the levels."""
    axes.plot(draws["step"], draws["reward"], ".", color=BLUE, alpha=0.2, label="a step")
    steps, reward, error = means["step"], means["reward"], means["reward_error"]
    axes.fill_between(steps, reward - error, reward + error, color=BLUE, alpha=0.3, linewidth=0)
    axes.plot(steps, reward, color=BLUE, linewidth=2.5, label="mean ± standard error")
    horizontal(axes, levels)
    finish(axes, "steps", "reward")


def against_kl(axes, means, frontier):
    """Reward against the KL divergence from the reference, coloured by step, and the frontier."""
    kl, reward = means["kl"], means["reward"]
    axes.plot(kl, reward, color=GREY, linewidth=0.8, alpha=0.3, zorder=1)
    axes.errorbar(kl, reward, means["reward_error"], fmt="none", ecolor=GREY, elinewidth=0.8, alpha=0.5, zorder=1)
    points = axes.scatter(kl, reward, c=means["step"], cmap="viridis", s=45, edgecolor="white", linewidth=0.6, zorder=2)
    axes.figure.colorbar(points, ax=axes, label="steps")
    if frontier:
        bottom, top = axes.get_ylim()
        best = np.array(sorted(frontier))
        axes.plot(*best.T, color=GREEN, linewidth=2.5, label="no policy is above")
        edge = 1.15 * max([*kl, 0.05])
        reached = [best[best[:, 0] <= edge, 1].max(initial=-np.inf), *np.interp([0, edge], *best.T)]
        axes.set(xlim=(min([*kl, 0.0]) - 0.04 * edge, edge), ylim=(bottom, top + 0.05 * (top - bottom)))
        axes.set_ylim(bottom=min(bottom, reached[1]), top=max(top, *reached) + 0.04 * (top - bottom))
    finish(axes, "KL(π ‖ π_ref), nats per answer", "reward")


def draw_preferences(log, path, title, levels=None, highest=None, score="log π / π_ref, nats per answer"):
    """Draw a run on preference pairs: loss, how many pairs are in the right order, and the scores of both answers.

    levels: {label: loss}, such as the entropy of the labels; highest: the largest expected share of pairs in the right
    order, where it is known; score: what the scores are
    """
    with picture(path, title, (16, 5.5)) as figure:
        losses, order, scores = figure.subplots(1, 3)
        training_curve(losses, log, label="training")
        losses.plot(*log.curve("validation"), "o-", color=ORANGE, linewidth=2.5, markersize=6, label="held out")
        horizontal(losses, levels or {})
        finish(losses, "steps", "loss, nats per pair")
        order.plot(*log.curve("accuracy"), "o-", color=ORANGE, linewidth=2.5, markersize=6, label="held out")
        horizontal(order, {} if highest is None else {"highest possible": highest})
        finish(order, "steps", "share of pairs in the right order")
        scores.axhline(0, color=GREY, linewidth=1)
        scores.plot(*log.curve("chosen"), "o-", color=BLUE, linewidth=2.5, markersize=6, label="chosen")
        scores.plot(*log.curve("rejected"), "s--", color=ORANGE, linewidth=2.5, markersize=6, label="rejected")
        finish(scores, "steps", score)


def thinned(draws, names):
    """{figure: means over neighbouring draws, POINTS of them at most}; of errors, the mean's error."""
    count = len(draws["step"])
    pieces = [piece for piece in np.array_split(np.arange(count), POINTS) if len(piece)]
    mean = lambda name, x: ((x**2).sum() ** 0.5 if name.endswith("_error") else x.sum()) / len(x)
    return {name: np.array([mean(name, draws[name][piece]) for piece in pieces]) for name in names}


def evaluations(axes, log, measure):
    """What evaluations measured: the mean, and in thin lines what it is the mean of."""
    parts = log.curves("validation_sources")
    for values in parts.values() if len(parts) > 1 else ():
        axes.plot(*values, color=GREY, linewidth=0.8)
    axes.plot(*log.curve("validation"), "o-", color=ORANGE, linewidth=2.5, markersize=6)
    finish(axes, title=f"held out: {measure}")
