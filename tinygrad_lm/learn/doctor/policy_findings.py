"""The training doctor's findings from the log of a policy gradient.

One step is too noisy to judge, so they compare stretches of the log: its first tenth and its last. The loss that is
minimised, the surrogate, is in none: at each step it begins anew at the mean advantage, whatever was learnt.
"""

import math

import numpy as np

from tinygrad_lm.learn.doctor.log_findings import Finding, judge
from tinygrad_lm.posttrain.policy.policy_log import distinct

FAR = 10.0  # nats from the reference


def policy_findings(log):
    """All findings, in the order of the report."""
    draws = distinct(log)
    return [reward(draws), divergence(draws), endings(draws), silence(draws), length_hacking(draws)]


def tenth(values):
    """How many values a stretch has."""
    return max(1, len(values) // 10)


def ends(draws, name):
    """The mean of a figure over the first tenth of all draws, and over the last."""
    values, n = draws[name], tenth(draws[name])
    return float(values[:n].mean()), float(values[-n:].mean())


def error_of_mean(errors):
    """The standard error of a mean, by those of its values."""
    return float(np.sqrt((errors**2).sum()) / len(errors))


def reward(draws):
    """Whether the reward rose, and stayed where it had been."""
    (first, last), n = ends(draws, "reward"), tenth(draws["reward"])
    errors = error_of_mean(draws["reward_error"][:n]), error_of_mean(draws["reward_error"][-n:])
    best = float(np.convolve(draws["reward"], np.ones(n) / n, "valid").max())
    error = math.hypot(*errors)
    lost = best - last > max(5 * error, 0.5 * (best - first))
    return Finding(
        "reward",
        f"{first:.3f} ± {errors[0]:.3f} at the start, {last:.3f} ± {errors[1]:.3f} at the end; at most {best:.3f} "
        f"over {n} steps",
        judge(not last - first > 2 * error, lost or not last - first >= -3 * error),
        "What training is for. It is the mean over the answers of a step, ± its standard error.",
        "rises, and stays; a policy can also collapse within 50 steps, to a reward far below its first one, where its "
        "learning rate is too high (Schulman et al. 2017, 'Proximal policy optimization algorithms', on such updates)",
        "Collapsed: lower the learning rate, or raise β, and keep the best checkpoint. Not risen: look at the silent "
        "groups below; then more steps or a higher rate.",
        {"first": first, "last": last, "best": best, "error": error},
    )


def divergence(draws):
    """How far the policy is from the reference."""
    kl, n = draws["kl"], tenth(draws["kl"])
    begun = abs(float(kl[0])) if draws["step"][0] == 1 else 0.0
    last, last3 = ends(draws, "kl")[1], ends(draws, "kl3")[1]
    known = n > 1 and np.isfinite(kl[-n:]).all()
    spread = float(kl[-n:].std(ddof=1)) / n**0.5 if known else math.inf
    return Finding(
        "KL divergence from the reference",
        f"{last:.3f} nats per answer (k1), {last3:.3f} (k3)"
        + f"; {begun:.3f} before the first update" * (begun > 1e-3),
        judge(not last <= FAR, not begun <= 1e-3 or last < min(-0.05, -4 * spread) or not math.isfinite(last)),
        "What the reward has cost. It is 0 before the first update; and as a mean over answers of the policy it cannot "
        "stay below 0, unless they were drawn from another distribution than the one that is trained.",
        f"a few nats; the reward grows about as √KL (Bai et al. 2022, 'Training a helpful and harmless assistant'), "
        f"and a learnt reward rises on while the real one falls (Gao et al. 2022, 'Scaling laws for reward model "
        f"overoptimization'); beyond {FAR:g} read what it writes",
        "Far away: raise β, which takes β · KL from the reward, or take an earlier checkpoint. Not 0 at the start: the "
        "reference is not the model that it began with, or one of both has dropout. Below 0: draw at temperature 1, "
        "without top-k and top-p.",
        {"first": begun, "last": last, "k3": last3},
    )


def endings(draws):
    """What share of the answers came to its end."""
    first, last = ends(draws, "ended")
    return Finding(
        "answers that end",
        f"{first:.1%} at the start, {last:.1%} at the end",
        judge(not last >= 0.9, not last >= 0.5),
        "An answer that is cut off at the limit gets no reward from a verifier, however right it was so far.",
        "nearly all (Yu et al. 2025, 'DAPO', section 3.4, on what cut-off answers do to the reward)",
        "Raise --limit. If that does not help, the end of an answer was never learnt: fine-tune on conversations whose "
        "answers' ends are targets.",
        {"first": first, "last": last},
    )


def silence(draws):
    """What share of the groups has equal rewards, so that no answer is better than another."""
    (first, last), (before, after) = ends(draws, "silent"), ends(draws, "reward")
    solved = after > before
    state = "; nothing is left to learn" if solved else "; there is nothing to learn from"
    return Finding(
        "groups without signal",
        f"{first:.1%} at the start, {last:.1%} at the end" + state * (last >= 1),
        judge(last > 0.9, last >= 1 and not solved),
        "Where all answers to a prompt have the same reward, each advantage is 0, and so is the gradient.",
        "some; the share grows as prompts are solved (Yu et al. 2025, 'DAPO', section 3.2, draws such prompts again)",
        "Never right: easier prompts, more answers to each (--group), or fine-tuning on right answers first. Always "
        "right: harder prompts, or stop here.",
        {"first": first, "last": last},
    )


def length_hacking(draws):
    """Whether answers grew or shrank far, with the KL divergence, in the direction that the reward pulls.

    The rule: the length changed by more than half as much again (or to less than two thirds), KL is above 1 nat, and
    the correlation of reward and length within groups, over the first half of the run, has the sign of that change and
    is at least 0.1.
    """
    (first, last), kl = ends(draws, "length"), ends(draws, "kl")[1]
    half = draws["length_reward"][: (len(draws["length_reward"]) + 1) // 2]
    correlation, grown = float(half.mean()), math.log(last / first)
    hacked = abs(grown) > math.log(1.5) and kl > 1 and correlation * math.copysign(1, grown) >= 0.1
    return Finding(
        "length of the answers",
        f"{first:.1f} tokens at the start, {last:.1f} at the end; its correlation with the reward was "
        f"{correlation:+.2f}" + f": the {'longer' if grown > 0 else 'shorter'}, the better" * hacked,
        judge(hacked, hacked and (abs(grown) > math.log(4) or kl > FAR)),
        "If longer or shorter answers to the same prompt have more reward, length is the cheapest way to get it, and "
        "the rest of an answer need not improve.",
        "it changes little, or in a way that you want (Singhal et al. 2023, 'A long way to go: investigating length "
        "correlations in RLHF')",
        "Read some answers. If the length is not what you mean: reward it less, say it in the verifier, or raise β.",
        {"first": first, "last": last, "correlation": correlation, "kl": kl},
    )
