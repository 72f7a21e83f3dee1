"""What is estimated after pretraining: for each function with a planted bug its purpose, small examples, and a law.

There is no derivative to fill in here. What shows a mistake is the value beside the right one, and the law that it
breaks.

P prompts, G answers a group, N answers, T time, B pairs
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.posttrain import objectives
from tinygrad_lm.posttrain.policy import advantages


@dataclass(frozen=True)
class Estimator:
    """A function of the package, and what a puzzle needs of it.

    purpose   what it is for, in place of its docstring, whose formula would be the answer
    examples  its arguments by name, the smallest first
    law       what must hold of its value, in words
    sides     sides(f, **arguments) -> both sides of the law, as numbers; f(**arguments) is the value
    tensors   the names of the arguments that are tensors
    """

    function: Callable
    purpose: str
    examples: tuple
    law: str
    sides: object
    tensors: tuple = ()

    def value(self, function, **arguments):
        """What a function makes of the arguments; of several arrays the first."""
        y = function(**{name: Tensor(x) if name in self.tensors else x for name, x in arguments.items()})
        y = y[0] if isinstance(y, tuple) else y
        return y.numpy() if isinstance(y, Tensor) else np.asarray(y)

    def both_sides(self, function, arguments):
        """Both sides of the law, arrays of one shape."""
        sides = self.sides(lambda **given: self.value(function, **given), **arguments)
        return np.broadcast_arrays(*np.atleast_1d(*sides))


def group(*rewards):
    return {"rewards": np.array(rewards, float)}


GROUPS = (group([1, 0]), group([1, 0, 0]), group([1, 0], [5, 2]), group([0.1, 0.1, 0.1]))


def own_reward(f, rewards):
    more = rewards.copy()
    more[0, 0] += 1
    return (f(rewards=more) - f(rewards=rewards))[0, 0], 1.0


def another_group(f, rewards):
    more = rewards.copy()
    more[0] += 1
    return f(rewards=more), f(rewards=rewards)


def squares(f, rewards):
    equal = (rewards == rewards[:, :1]).all(1)
    return (f(rewards=rewards) ** 2).sum(1), np.where(equal, 0.0, rewards.shape[1] - 1.0)


def answers(*masks, **more):
    """Answers by their masks: strings of 1 where a token was drawn, 0 elsewhere."""
    return {"mask": np.array([[letter == "1" for letter in mask] for mask in masks]), **more}


def sum_of_weights(f, mask, kind, group, limit):
    weights = f(mask=mask, kind=kind, group=group, limit=limit) * mask
    return weights.reshape(-1, group * mask.shape[1]).sum(1), float(group)


def sum_of_rewards(f, scores, logp, reference, mask, beta):
    rewards = f(scores=scores, logp=logp, reference=reference, mask=mask, beta=beta)
    return rewards.sum(1), scores - beta * ((logp - reference) * mask).sum(1)


def rewards_to_come(f, rewards, values, mask, lam):
    found = f(rewards=rewards, values=values, mask=mask, lam=1.0)
    return np.where(mask, found + values, 0), np.where(mask, (rewards * mask)[:, ::-1].cumsum(1)[:, ::-1], 0)


def below_the_ratio(f, logp, old, advantages, clip):
    free = np.exp(logp - old) * advantages
    return np.maximum(f(logp=logp, old=old, advantages=advantages, clip=clip), free), free


def far_ahead(f, better, worse):
    return f(better=better + 50, worse=worse), 0.0


def at_the_reference(f, chosen, rejected, reference_chosen, reference_rejected, beta):
    reference = {"reference_chosen": reference_chosen, "reference_rejected": reference_rejected}
    return f(chosen=reference_chosen, rejected=reference_rejected, **reference, beta=beta), np.log(2)


def row(*numbers):
    return np.array([numbers], float)


LOGP = {"logp": row(-1, -2), "reference": row(-1.5, -1.8)}
PAIR = {"chosen": [-2], "rejected": [-3], "reference_chosen": [-2.5], "reference_rejected": [-1]}
# fmt: off
ESTIMATORS = {estimator.function.__name__: estimator for estimator in (
    Estimator(advantages.leave_one_out,
        "(P, G) -> (P, G): how much better each answer is than a baseline. Its gradient climbs the expected reward.",
        GROUPS,
        "A reward that grows by 1 must raise its own answer's advantage by 1: the baseline is without it", own_reward),
    Estimator(advantages.centred,
        "(P, G) -> (P, G): how much better each answer is than its group.", GROUPS,
        "A constant added to the rewards of one group must change nothing, in it or in another", another_group),
    Estimator(advantages.standardised,
        "(P, G) -> (P, G): how much better each answer is than its group, in units of the group's spread.", GROUPS,
        "The squares of a group's advantages must sum to G − 1, or to 0 where its rewards are equal", squares),
    Estimator(advantages.length_weights,
        "(N, 1): what the tokens of an answer are weighted by. group: the mean over all tokens of its group.",
        (answers("10", "11", kind="group", group=2, limit=2),
         answers("10", "10", "11", "11", kind="group", group=2, limit=2)),
        "The weights of all tokens of a group must sum to its number of answers", sum_of_weights),
    Estimator(advantages.kl_in_reward,
        "(N, T): the reward of each token: the answer's score, less β times the log-ratio to the reference.",
        (answers("11", scores=np.array([3.0]), **LOGP, beta=0.5),),
        "The rewards of an answer must sum to its score less β log π/π_ref of the whole answer", sum_of_rewards),
    Estimator(advantages.gae,
        "(N, T), (N, T): advantages and returns of tokens, from their rewards and a value head's numbers.",
        (answers("1", rewards=row(2), values=row(0.5), lam=0.5),
         answers("11", rewards=row(1, 2), values=row(0.5, 1), lam=0.5),
         answers("110", rewards=row(1, 2, 0), values=row(0.5, 1, 4), lam=0.5)),
        "With λ = 1, advantage and value must sum to the rewards still to come, whatever the values", rewards_to_come),
    Estimator(objectives.surrogate,
        "(N, T): what PPO climbs: ratio to the old policy times advantage, clipped where it would pay too well.",
        tuple({"logp": np.log(row(ratio / 2)), "old": np.log(row(0.5)), "advantages": row(sign), "clip": 0.2}
              for ratio in (1, 0.5, 1.5) for sign in (1, -1)),
        "Clipping is a pessimist: the surrogate must never be above ρ A", below_the_ratio, ("logp",)),
    Estimator(objectives.bradley_terry_loss,
        "(B,): minus the log-probability that the better answer is preferred, by its score and the worse one's.",
        ({"better": np.array([1.0]), "worse": np.array([0.0])},),
        "Where the better answer is far ahead, its label is no surprise: the loss must be 0", far_ahead,
        ("better", "worse")),
    Estimator(objectives.dpo_loss,
        "(B,): the loss of preferences, by the log-probabilities of both answers by policy and reference.",
        ({name: np.array(x, float) for name, x in PAIR.items()} | {"beta": 0.5},),
        "Where the policy is the reference it prefers neither answer: the loss must be log 2, whatever β",
        at_the_reference, ("chosen", "rejected")),
)}
# fmt: on
