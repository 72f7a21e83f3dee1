"""The training doctor's findings from the log of a run on preference pairs: DPO, or a reward model."""

import math

from tinygrad_lm.learn.doctor.log_findings import Finding, judge, validation_curve

FALLEN = -10.0  # nats: below it the chosen answers have become improbable
DISPLACED = (
    "Both may fall while the loss does: it sees their difference alone. One step changes log π(chosen) in proportion "
    "to (f_c − E f)·(f_c − f_r), f an answer's features, E over the policy; where both answers have much in common "
    "that is small or negative, and the probability goes to answers that are in no pair."
)


def preference_findings(log, of_reward=False):
    """All findings, in the order of the report. of_reward: of a reward model, not of DPO"""
    answers = [] if of_reward else [chosen_answers(log)]
    return [indifference(log), *answers, order(log), validation_curve(log)]


def indifference(log):
    """Compare the loss before the first update with log 2."""
    steps, losses = log.curve("loss")
    found = losses[0] if steps and steps[0] == 1 else math.nan
    return Finding(
        "loss at the start",
        f"{found:.4f} nats, log 2 = {math.log(2):.4f}",
        judge(not abs(found - math.log(2)) <= 1e-3, not abs(found - math.log(2)) <= 0.05),
        "Before the first update the policy is its reference, and a reward model's head is zero: no answer is better.",
        "log 2 exactly",
        "The reference is not the model that it began with, or one of both has dropout; or the log does not begin at "
        "step 1.",
        {"found": found},
    )


def last(log, figure):
    """A figure at the last evaluation."""
    return log.curve(figure)[1][-1]


def chosen_answers(log):
    """How the log-probabilities of both answers moved."""
    chosen, rejected = last(log, "chosen"), last(log, "rejected")
    moved = lambda x: "rose" if x > 0 else "fell"
    ways = moved(chosen), moved(rejected)
    state = f"both {ways[0]}" if ways[0] == ways[1] else "the chosen {}, the rejected {}".format(*ways)
    return Finding(
        "log-probability of the chosen answers",
        f"{chosen:+.2f} nats per answer against the reference, of the rejected {rejected:+.2f}: {state}",
        judge(not chosen >= FALLEN, not math.isfinite(chosen)),
        DISPLACED,
        "both fall by some nats, the rejected further (Razin et al. 2024, 'Unintentional unalignment: likelihood "
        "displacement in direct preference optimization'; Rafailov et al. 2024, 'From r to Q*')",
        "Fewer steps, a lower learning rate or a larger β; pairs that the model wrote itself; or pairs whose answers "
        "have less in common. Look at what it writes now.",
        {"chosen": chosen, "rejected": rejected},
    )


def order(log):
    """How many pairs are in the right order."""
    share = last(log, "accuracy")
    return Finding(
        "pairs in the right order",
        f"{share:.1%} of those held out, at the end",
        judge(not share > 0.55, not share > 0.45),
        "In how many pairs the chosen answer has the higher reward: β log π / π_ref, or the reward model's score.",
        "60 to 75 % where people chose, who agree with each other in about as many (Ouyang et al. 2022, 'InstructGPT', "
        "section 3.4)",
        "Below a half: chosen and rejected are exchanged. At a half: more steps, a higher learning rate, or labels "
        "that say nothing.",
        {"share": share},
    )
