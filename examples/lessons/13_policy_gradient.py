"""Lesson 13: the policy gradient, exact and from samples, and what a baseline is for.

A model writes an answer y, token by token, and gets a reward r(y). The tokens were drawn, so there is nothing to
differentiate along them; but how probable they were can be differentiated. For the expected reward J:

    J = Σ π(y) r(y)        ∇J = Σ π(y) r(y) ∇log π(y) = E[r ∇log π]    since ∇π = π ∇log π

(Williams 1992, "REINFORCE"). The right side is a mean over what the model writes: drawing a few answers estimates it.
Here there are seven answers in all, so both sides are sums, and the estimate can be held against what it estimates.

    python examples/lessons/13_policy_gradient.py
"""

import numpy as np

from tinygrad_lm.posttrain.exact import Table, World
from tinygrad_lm.posttrain.policy.advantages import centred, leave_one_out, standardised
from tinygrad_lm.programs import run_lesson

LETTERS = "ab."  # the last one ends an answer
SAMPLES, BATCHES, BATCH = 2000, 2000, 64
world = World(len(LETTERS), prompt=(0,), end=2, limit=2)
answers = ["".join(LETTERS[token] for token in response) for response in world.responses]
reward = np.array([float(answer.count("b") == 1) for answer in answers])  # what a verifier says: right or wrong


def main(out="."):
    model = Table(world)  # a policy with a logit for each beginning of an answer and each next letter
    model.logits.data = 0.5 * np.random.default_rng(7).standard_normal(model.logits.shape)
    pi = np.exp(world.log_probability(model).sum(1))
    print("All answers of at most two letters, and how probable the model thinks they are:")
    for answer, p, r in zip(answers, pi, reward, strict=True):
        print(f"  {answer:3} π = {p:.4f}  r = {r:g}  " + "█" * round(60 * p))
    print(f"  sum {pi.sum():.4f}, J = P(success) = {pi @ reward:.4f}")
    # ∇log π(y) of each answer, by the three logits of the first letter: (7, 3)
    scores = np.stack([world.gradient(model, one)[:3] for one in np.eye(len(pi))])
    gradients = exact(model, pi)
    samples = sampled(pi, scores, gradients["derivative of the sum"])
    return {"pi": pi, "scores": scores, "gradients": gradients, "samples": samples} | baseline(pi, scores, model)


def exact(model, pi):
    """∇J by the logits of the first letter: of the sum itself, by log-probabilities, and by a nudge."""
    found = {
        "derivative of the sum": world.value(model, reward)[1][:3],
        "Σ π r ∇log π": world.gradient(model, pi * reward)[:3],
    }
    slopes = []
    for place in range(3):
        J = []
        for step in (1e-5, -1e-5):
            model.flat.data[place] += step
            J.append(np.exp(world.log_probability(model).sum(1)) @ reward)
            model.flat.data[place] -= step
        slopes.append((J[0] - J[1]) / 2e-5)
    found["a nudge of 1e-5"] = np.array(slopes)
    print("\n∂J by the logits of the first letter:" + "".join(f"{letter:>12}" for letter in LETTERS))
    for name, gradient in found.items():
        print(f"  {name:35}" + "".join(f"{x:+12.7f}" for x in gradient))
    return found


def sampled(pi, scores, right):
    """The mean of r ∇log π over drawn answers, and its standard error."""
    drawn = np.random.default_rng(0).choice(len(pi), size=SAMPLES, p=pi)
    estimates = reward[drawn, None] * scores[drawn]
    mean, error = estimates.mean(0), estimates.std(0, ddof=1) / np.sqrt(SAMPLES)
    print(f"\n{SAMPLES} drawn answers instead of all:   mean ± standard error          exact     off by")
    for letter, *row in zip(LETTERS, mean, error, right, (mean - right) / error, strict=True):
        print("  {:33}{:+.5f} ± {:.5f}    {:+12.7f}   {:+.1f} errors".format(letter, *row))
    return {"mean": mean, "error": error}


def baseline(pi, scores, model):
    """E[(r − b) ∇log π] is the same for every b, because E[∇log π] = Σ ∇π = ∇1 = 0; its variance is not."""
    print("\nSubtract a number b from every reward. The expectation stays; the spread of one sample does not:")
    print("  rewards     b            expectation for a   standard deviation, of all three")
    rows = []
    for shift in (0, 10):  # the same task: 10 and 11 in place of 0 and 1
        for name, b in {"b = 0": 0.0, "b = J": pi @ reward + shift}.items():
            estimates = (reward + shift - b)[:, None] * scores
            mean = pi @ estimates
            rows.append((shift, b, mean, np.sqrt((pi @ (estimates - mean) ** 2).sum())))
            print(f"  {shift:2} and {shift + 1:<2}   {name}   {mean[0]:+18.7f}   {rows[-1][-1]:10.4f}")

    print(
        f"\nRewards 10 and 11, {BATCHES} batches of {BATCH} answers: their estimates for a, exact value in the middle"
    )
    drawn = np.random.default_rng(1).choice(len(pi), size=(BATCHES, BATCH), p=pi)
    right, spread = pi @ (reward * scores[:, 0]), {}
    for name, b in {"b = 0": 0.0, "b = J": pi @ reward + 10}.items():
        estimates = ((reward[drawn] + 10 - b) * scores[drawn, 0]).mean(1)
        spread[name] = estimates.std()
        counts, _ = np.histogram(estimates, bins=41, range=(right - 2, right + 2))
        print(f"  {name} │" + "".join(" ▁▂▃▄▅▆▇█"[int(np.ceil(8 * c / counts.max()))] for c in counts) + "│")

    # J is not known either. The other answers to the same prompt give a fair guess of it. An answer's own reward must
    # not be among them: a part of what it earned would be subtracted. All groups of G are few enough to go through.
    print("\nThe baseline from a group of G answers: the expected gradient, over all groups, is so many times ∇J:")
    log_pi, right, factors = np.log(pi), world.value(model, reward)[1], {}
    for advantage in (leave_one_out, centred, standardised):
        for G in (2, 4):
            groups = world.groups(G)
            weights = world.expected_weights(log_pi, groups, advantage(reward[groups]) / G)
            found = world.gradient(model, weights)
            factors[advantage.__name__, G] = found @ right / (right @ right)
    for name in ("leave_one_out", "centred", "standardised"):
        print(f"  {name:14}" + "".join(f"   G = {G}: {factors[name, G]:.6f}" for G in (2, 4)))
    print("centred is 1 − 1/G times as long; standardised also depends on P(success): rare successes count more.")
    return {"variance": rows, "spread": spread, "factors": factors}


if __name__ == "__main__":
    run_lesson(main)
