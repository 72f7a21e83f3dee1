"""Mistakes in the package's own functions of post-training, as people make them: what to replace in which source.

Only the edit is stored, so a mutant cannot fall behind its function: a fragment that is not found there exactly once is
an error. CLASSIC are known from published projects; each check of the oracles notices at least one mutant.
"""

import inspect
import sys
import textwrap
from dataclasses import dataclass

from oracles import drawing, gradients, preferences, values

from tinygrad_lm.posttrain import objectives, reward
from tinygrad_lm.posttrain.policy import advantages, policy, rollouts

CHECKS = [*gradients.CHECKS, *preferences.CHECKS, *values.CHECKS, *drawing.CHECKS]


@dataclass(frozen=True)
class Mutant:
    """A mistake: a function of the package, {fragment of its source: what replaces it}, and the check that notices."""

    mistake: str
    function: object
    edits: dict
    check: object

    @property
    def wrong(self):
        """The function with its mistake, among the names of its own module."""
        source = textwrap.dedent(inspect.getsource(self.function))
        for fragment, other in self.edits.items():
            assert source.count(fragment) == 1, (
                f"{self.mistake}: {fragment!r} occurs {source.count(fragment)} times in\n{source}"
            )
            source = source.replace(fragment, other)
        found = {}
        exec(source, vars(sys.modules[self.function.__module__]), found)
        return found[self.function.__name__]

    def plant(self, monkeypatch):
        """Put the wrong function wherever the package has the right one: in modules, classes and tables."""
        wrong = self.wrong
        modules = [module for name, module in sys.modules.items() if name.startswith("tinygrad_lm.posttrain.")]
        places = [vars(module) for module in modules] + [advantages.ADVANTAGES]
        for names in places:
            for name, value in list(names.items()):
                if value is self.function:
                    monkeypatch.setitem(names, name, wrong)
        owner, _, name = self.function.__qualname__.rpartition(".")
        if owner:
            monkeypatch.setattr(getattr(sys.modules[self.function.__module__], owner), name, wrong)


# fmt: off
CLASSIC = [
    Mutant("the end token is not learnt", rollouts.as_batch,
        {"targets[i, len(before) - 1 : n] = answer": "targets[i, len(before) - 1 : n - 1] = answer[:-1]"},
        drawing.a_batch_of_all_answers_has_their_gradient),
    Mutant("the mask is off by one: the first token is not learnt", rollouts.as_batch,
        {"targets[i, len(before) - 1 : n] = answer": "targets[i, len(before) : n] = answer[1:]"},
        drawing.a_batch_of_all_answers_has_their_gradient),
    Mutant("log-probabilities shifted against the advantages", objectives.policy_gradient,
        {"old, advantages, clip)": "old, (0 * advantages + advantages[:, [*range(1, advantages.shape[1]), 0]]), clip)"},
        gradients.leave_one_out_is_unbiased),
    Mutant("drawn at temperature 0.7, learnt as if from the policy", rollouts.draw_answers,
        {"rows=rows": "rows=rows, temperature=0.7"}, drawing.answers_are_drawn_from_the_policy),
    Mutant("drawn from the best two, learnt as if from the policy", rollouts.draw_answers,
        {"rows=rows": "rows=rows, top_k=2"}, drawing.answers_are_drawn_from_the_policy),
    Mutant("an answer's own reward in its baseline", advantages.leave_one_out,
        {" * (G / (G - 1))": ""}, gradients.leave_one_out_is_unbiased),
    Mutant("the sign of the reward", objectives.policy_gradient,
        {"-gain.sum()": "gain.sum()"}, gradients.leave_one_out_is_unbiased),
    Mutant("answers that were cut off get no reward", policy.PolicySteps.draw,
        {"self.judge(answers)": "self.judge(answers) * answers.ended"}, drawing.what_is_learnt_is_what_was_drawn),
    Mutant("answers that were cut off are left out", policy.PolicySteps.draw,
        {"targets != IGNORED": "targets != IGNORED) & answers.ended[:, None]", "mask = answers": "mask = (answers"},
        drawing.what_is_learnt_is_what_was_drawn),
    Mutant("the mean over each answer's tokens", policy.learn_from,
        {"method.length": '"own"'}, gradients.leave_one_out_is_unbiased),
    Mutant("padding is learnt", rollouts.as_batch,
        {"np.full((len(ids), T), IGNORED)": "np.zeros((len(ids), T), np.int64)"},
        drawing.a_batch_of_all_answers_has_their_gradient),
    Mutant("KL in the loss as k1, whose expected gradient is 0", policy.learn_from,
        {"rewards = scores - method.beta * ((logp - reference) * mask).sum(axis=1)": "rewards = scores"},
        gradients.kl_in_the_reward_is_the_gradient_of_kl),
    Mutant("the sign of KL", policy.learn_from,
        {"scores - method.beta": "scores + method.beta"}, gradients.kl_in_the_reward_is_the_gradient_of_kl),
    Mutant("k3 a token in place of k1", policy.learn_from,
        {"((logp - reference) * mask)": "((np.expm1(reference - logp) + logp - reference) * mask)"},
        gradients.kl_in_the_reward_is_the_gradient_of_kl),
    Mutant("the policy is its own reference", policy.PolicySteps.draw,
        {"self.measured(self.reference, answers)": "self.measured(self.model, answers)"},
        drawing.what_is_learnt_is_what_was_drawn),
]

OWN = [
    # advantages
    Mutant("a baseline of the whole batch", advantages.centred,
        {"rewards.mean(axis=1, keepdims=True)": "rewards.mean()"}, drawing.what_is_learnt_is_what_was_drawn),
    Mutant("a baseline across groups", advantages.centred,
        {"axis=1": "axis=0"}, gradients.centred_shrinks_by_its_own_share),
    Mutant("no baseline, scaled as if there were one", advantages.centred,
        {" - rewards.mean(axis=1, keepdims=True)": ""}, gradients.leave_one_out_is_unbiased),
    Mutant("a deviation with G instead of G − 1", advantages.standardised,
        {"ddof=1, ": ""}, gradients.standardised_climbs_by_the_factor),
    Mutant("a millionth added to the deviation", advantages.standardised,
        {"ddof=1, keepdims=True)": "ddof=1, keepdims=True) + 1e-6"}, gradients.standardised_climbs_by_the_factor),
    Mutant("a rounding divided by a rounding", advantages.standardised,
        {"np.where(silent, 0.0, centred(rewards) / np.where(silent, 1.0, std))":
         "centred(rewards) / np.where(std == 0, 1, std)"}, gradients.equal_rewards_teach_nothing),
    Mutant("groups cut across", policy.learn_from,
        {"rewards.reshape(-1, method.group)": "rewards.reshape(method.group, -1).T"},
        drawing.what_is_learnt_is_what_was_drawn),
    Mutant("each token's share of the length, of the padded one", advantages.length_weights,
        {"mask.sum(axis=1, keepdims=True)": "(mask | True).sum(axis=1, keepdims=True)"},
        gradients.own_lengths_climb_another_hill),
    Mutant("the constant length is that of the batch", advantages.length_weights,
        {"1 / limit}": "1 / mask.shape[1]}"}, gradients.centred_shrinks_by_its_own_share),
    Mutant("a group's length given to another group", advantages.length_weights,
        {"np.repeat(group / total, group)": "np.tile(group / total, group)"}, gradients.lengths_of_the_group_by_hand),
    Mutant("KL a token: the mean over an answer's tokens", policy.learn_from,
        {".sum(axis=1)": ".mean(axis=1)"}, gradients.where_the_policy_is_the_optimum_nothing_moves),
    Mutant("the score where an answer of the prompt's length would end", advantages.last_tokens,
        {"mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)": "mask.sum(axis=1) - 1"},
        values.gae_has_the_advantage_as_its_mean),
    Mutant("the score one place late", advantages.kl_in_reward,
        {"last_tokens(mask)": "np.minimum(last_tokens(mask) + 1, mask.shape[1] - 1)"},
        gradients.kl_in_the_reward_is_the_gradient_of_kl),
    Mutant("the score in place of the last token's KL", advantages.kl_in_reward,
        {"+= scores": "= scores"}, values.gae_has_the_advantage_as_its_mean),
    Mutant("the sign of KL in a token's reward", advantages.kl_in_reward,
        {"-beta": "beta"}, values.ppo_is_both_gradients),
    Mutant("λ = 1 whatever λ is", advantages.gae,
        {"lam * after": "after"}, values.gae_trusts_values_as_far_as_lambda_says),
    Mutant("γ = 0.99", advantages.gae,
        {"+ following -": "+ 0.99 * following -"}, values.gae_has_the_advantage_as_its_mean),
    Mutant("no value of what follows", advantages.gae,
        {"+ following -": "-"}, values.gae_has_the_advantage_as_its_mean),
    Mutant("a value behind the end", advantages.gae,
        {"values = np.where(mask, values, 0.0)": "values = 1.0 * values"}, values.gae_has_the_advantage_as_its_mean),
    Mutant("what comes later reaches back over the end", advantages.gae,
        {"np.where(mask[:, t], delta + lam * after, 0.0)": "delta + lam * after"},
        values.gae_has_the_advantage_as_its_mean),
    Mutant("returns without the values", advantages.gae,
        {"np.where(mask, advantages + values, 0.0)": "advantages"}, values.gae_has_the_advantage_as_its_mean),
    # objectives
    Mutant("the mean over tokens, not over answers", objectives.policy_gradient,
        {"/ len(tokens)": "/ tokens.size"}, gradients.leave_one_out_is_unbiased),
    Mutant("the ratio's logarithm", objectives.surrogate,
        {"ops.exp(logp - old)": "1.0 + logp - old"}, values.ratios_have_the_mean_one),
    Mutant("the ratio upside down", objectives.surrogate,
        {"logp - old": "old - logp"}, values.surrogate_at_the_old_policy_is_the_policy_gradient),
    Mutant("clipped whichever way it pays", objectives.surrogate,
        {"xp.where(advantages > 0, ratio.data <= bound, ratio.data >= bound)": "abs(ratio.data - 1) <= clip"},
        values.clipping_is_the_formula_on_both_sides),
    Mutant("clipped on the wrong side", objectives.surrogate,
        {"xp.where(advantages > 0, 1 + clip, 1 - clip)": "xp.where(advantages > 0, 1 - clip, 1 + clip)"},
        values.clipping_is_the_formula_on_both_sides),
    Mutant("never clipped below", objectives.surrogate,
        {"ratio.data >= bound)": "ratio.data == ratio.data)"}, values.clipping_is_the_formula_on_both_sides),
    Mutant("values without the half", objectives.value_loss,
        {"0.5 * ": ""}, values.values_descend_to_the_mean_return),
    Mutant("values learn from padding", objectives.ppo,
        {"xp.where(xp.isnan(returns), values.data, returns)": "xp.where(xp.isnan(returns), 0.0, returns)"},
        values.ppo_is_both_gradients),
    Mutant("values without their weight", objectives.ppo,
        {"value_weight * value_loss": "value_loss"}, values.ppo_is_both_gradients),
    Mutant("the old log-probabilities are the reference's", policy.learn_from,
        {"np.where(mask, returns, np.nan)": "np.where(mask, returns, np.nan)", "[found, logp, ": "[found, reference, "},
        values.ppo_is_both_gradients),
    # preferences
    Mutant("log-probabilities averaged over tokens", objectives.dpo,
        {".sum(axis=1)": ".mean(axis=1)"}, preferences.dpo_rests_at_the_optimum),
    Mutant("chosen and rejected references exchanged", objectives.dpo,
        {"reference[:, 0], reference[:, 1]": "reference[:, 1], reference[:, 0]"},
        preferences.dpo_moves_both_to_first_order),
    Mutant("first all chosen, then all rejected", objectives.dpo,
        {".reshape(B, 2)": ".reshape(2, B).T"}, preferences.dpo_rests_at_the_optimum),
    Mutant("no reference", objectives.dpo_loss,
        {"beta * (rejected - reference_rejected)": "beta * rejected",
         "beta * (chosen - reference_chosen)": "beta * chosen"}, preferences.dpo_reaches_the_optimum),
    Mutant("β on the policy alone", objectives.dpo_loss,
        {"beta * (chosen - reference_chosen)": "beta * chosen - reference_chosen"},
        preferences.dpo_reaches_the_optimum),
    Mutant("better and worse exchanged", objectives.bradley_terry_loss,
        {"ops.stack(better, worse, axis=1)": "ops.stack(worse, better, axis=1)"},
        preferences.bradley_terry_is_the_maximum_likelihood),
    Mutant("1 − P in place of −log P", objectives.bradley_terry_loss,
        {"-ops.log_probability(ops.stack(better, worse, axis=1), xp.zeros(len(better), int))":
         "ops.softmax(ops.stack(better, worse, axis=1))[:, 1]"}, preferences.dpo_moves_both_to_first_order),
    Mutant("the reward read at the token before the last", reward.whole_answers,
        {"ends = counted.shape[-1] - ": "ends = counted.shape[-1] - 1 - "},
        preferences.reward_model_rests_at_the_truth),
    Mutant("the reward read at the last place, padding or not", reward.whole_answers,
        {"ends = counted.shape[-1] - counted[..., ::-1].argmax(axis=-1)":
         "ends = np.full(counted.shape[:-1], counted.shape[-1])"}, preferences.reward_model_rests_at_the_truth),
    Mutant("pairs of scores in the wrong order", objectives.bradley_terry,
        {".reshape(B, 2)": ".reshape(2, B).T"}, preferences.reward_model_rests_at_the_truth),
    # what is drawn, and what is logged
    Mutant("every step draws the same", policy.PolicySteps.draw,
        {"seed, rows, pieces": "seed, range(len(rows)), pieces"}, drawing.answers_are_drawn_from_the_policy),
    Mutant("the answers of a group draw the same", policy.PolicySteps.draw,
        {"seed, rows, pieces": "seed, [row // method.group for row in rows], pieces"},
        drawing.answers_are_drawn_from_the_policy),
    Mutant("a group of several prompts", policy.PolicySteps.draw,
        {"row // method.group": "row"}, drawing.what_is_learnt_is_what_was_drawn),
    Mutant("old log-probabilities of another precision", policy.PolicySteps.measured,
        {"model.log_probability(tokens, targets).numpy()]":
         'model.log_probability(tokens, targets).numpy().astype("float32")]'}, drawing.the_first_ratio_is_one),
    Mutant("KL the other way round in the log", policy.facts_of,
        {"np.expm1(-k1 * mask) + k1 * mask": "np.expm1(k1 * mask) - k1 * mask"},
        gradients.logged_estimates_of_kl_have_it_as_their_mean),
    Mutant("KL a token in the log", policy.facts_of,
        {"(k1 * mask).sum(axis=1).mean()": "(k1 * mask).sum() / mask.sum()"},
        gradients.logged_estimates_of_kl_have_it_as_their_mean),
]
# fmt: on
