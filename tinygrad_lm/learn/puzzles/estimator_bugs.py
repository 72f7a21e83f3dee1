"""Planted bugs of post-training: advantages and losses with one mistake, as published projects have had them."""

import numpy as np

from tinygrad_lm.learn.puzzles.bugs import puzzle_names
from tinygrad_lm.learn.puzzles.compare import Difference
from tinygrad_lm.learn.puzzles.estimators import ESTIMATORS
from tinygrad_lm.learn.puzzles.examples import as_text, short
from tinygrad_lm.learn.puzzles.patch import Bug, function_source


class EstimatorBug(Bug):
    """A mistake in an Estimator's function, whose name is `operation`."""

    @property
    def estimator(self):
        return ESTIMATORS[self.operation]

    @property
    def original(self):
        return self.estimator.function

    @property
    def right_source(self):
        return function_source(self.original, self.estimator.purpose)

    def symptom(self):
        """The arguments of the smallest example on which it is wrong, and the Difference."""
        for arguments in self.estimator.examples:
            found, right = (self.estimator.value(f, **arguments) for f in (self.rule, self.original))
            difference = Difference("y", found, right, 1e-8)
            if difference.wrong:
                return arguments, difference
        raise AssertionError(f"no example shows what is wrong with {self.title}")

    def question(self):
        """The wrong function, and the example that shows it."""
        arguments, difference = self.symptom()
        width = max(map(len, arguments))
        texts = {name: as_text(x).replace("\n", "\n" + " " * (width + 5)) for name, x in arguments.items()}
        listed = "\n".join(f"  {name:<{width}} = {text}" for name, text in texts.items())
        return "\n".join([self.source, "\nThe smallest example on which it is wrong:\n", listed, "",
                          difference.table("function")])  # fmt: skip

    def broken_law(self):
        """A sentence, with the two sides' numbers on the smallest example that breaks it."""
        for arguments in self.estimator.examples:
            found, expected = self.estimator.both_sides(self.rule, arguments)
            off = ~np.isclose(found, expected, rtol=1e-9, atol=1e-9)
            if off.any():
                return f"{self.estimator.law}. Here {short(found[off][0])}, not {short(expected[off][0])}."
        raise AssertionError(f"no example breaks the law of {self.title}")


# fmt: off
ESTIMATOR_BUGS = [
    EstimatorBug("leave_one_out", "that an answer is part of", {" * (G / (G - 1))": ""},
        "Which rewards is the mean of? Which should it be of?",
        "With its own reward in the baseline, an answer loses 1/G of what it earned: the gradient is 1 − 1/G of ∇J."),
    EstimatorBug("leave_one_out", "of one answer too many", {"G / (G - 1)": "(G + 1) / G"},
        "Write the mean of the G − 1 others by the mean of all G.",
        "r − mean of the others is G / (G − 1) times r − mean of all."),
    EstimatorBug("centred", "over the whole batch", {"rewards.mean(axis=1, keepdims=True)": "rewards.mean()"},
        "What happens if one prompt is easy and another hard?",
        "Every answer to an easy prompt is then better than the mean, right or wrong: the prompt is praised."),
    EstimatorBug("centred", "across groups", {"axis=1": "axis=0"},
        "Which axis are the answers to one prompt?",
        "The mean over prompts of the answers with the same number: they have nothing in common."),
    EstimatorBug("standardised", "with G", {"ddof=1, ": ""},
        "By what is the sum of squares divided in a standard deviation of G − 1 degrees of freedom?",
        "NumPy divides by G, PyTorch by G − 1: the same line of code in two libraries differs by √((G − 1)/G)."),
    EstimatorBug("standardised", "by a rounding", {
            "    silent = silent_groups(rewards)[:, None]\n": "",
            "np.where(silent, 0.0, centred(rewards) / np.where(silent, 1.0, std))":
            "centred(rewards) / np.where(std == 0, 1.0, std)"},
        "What are the mean and the deviation of three times 0.1, in floating point?",
        "The mean of equal numbers can be off by a rounding, and so can the deviation: their quotient is near 1."),
    EstimatorBug("length_weights", "of another group", {"np.repeat(group / total": "np.tile(group / total"},
        "One group cannot show it. Take two, of different lengths.",
        "np.tile gives answer i the weight of group i mod P, np.repeat that of its own group."),
    EstimatorBug("kl_in_reward", "that pays for leaving", {"-beta": "beta"},
        "Is a token that the policy likes more than the reference does rewarded or punished?",
        "With the sign turned, the policy is drawn away from its reference, at first slowly."),
    EstimatorBug("kl_in_reward", "with the last token's part lost", {"+= scores": "= scores"},
        "How many rewards does the last token get?",
        "The score takes the place of the last token's KL penalty in place of being added to it."),
    EstimatorBug("gae", "without the next value", {"+ following -": "-"},
        "What is known at a token about the rewards after the next one?",
        "R − V in place of R + V′ − V: what the value promised is subtracted at every token, and never paid back."),
    EstimatorBug("gae", "that looks behind the end", {
            "    values = np.where(mask, values, 0.0)\n": ""},
        "What is the value of padding?",
        "Nothing comes after the last token, but the value head says a number at padding, too."),
    EstimatorBug("surrogate", "with the ratio upside down", {"logp - old": "old - logp"},
        "Which way does the surrogate go if an answer with A > 0 becomes more probable?",
        "old/new in place of new/old: at the first step the value is right, and the gradient has the wrong sign."),
    EstimatorBug("surrogate", "clipped whichever way it pays", {
            "xp.where(advantages > 0, ratio.data <= bound, ratio.data >= bound)": "abs(ratio.data - 1) <= clip"},
        "A good token has become rarer. May the way back be blocked?",
        "Only what pays is clipped. Where the ratio is on the losing side, the gradient must lead back."),
    EstimatorBug("bradley_terry_loss", "with the label exchanged", {"stack(better, worse": "stack(worse, better"},
        "Which of the two scores must grow to lower the loss?",
        "The class 0 is the first of the stack: here, the worse answer."),
    EstimatorBug("dpo_loss", "without the reference", {
            "chosen - reference_chosen": "chosen", "rejected - reference_rejected": "rejected"},
        "Two answers that the reference finds unequally probable: what does the loss ask of them?",
        "The margin is one of log-ratios to the reference; here an answer that was probable before is a better one."),
    EstimatorBug("dpo_loss", "with β on one of two", {
            "beta * (chosen - reference_chosen)": "beta * chosen - reference_chosen"},
        "Where the policy is the reference, what is each of the two scores?",
        "β belongs to the whole log-ratio: r = β (log π − log π_ref)."),
]
# fmt: on
ESTIMATOR_PUZZLES = puzzle_names(ESTIMATOR_BUGS)
