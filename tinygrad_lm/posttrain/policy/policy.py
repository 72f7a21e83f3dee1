"""Steps of a policy gradient: draw answers with the weights as they are, judge them, learn from them.

What is drawn depends on the weights, the seed and the step alone, so a resumed run draws what it would have drawn.

P prompts, G answers to each (a group), N = P G answers, T time.
"""

from fractions import Fraction

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.data.loader import BatchStream
from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.data.conversations import shuffled
from tinygrad_lm.posttrain.policy import advantages
from tinygrad_lm.posttrain.policy.rollouts import as_batch, draw_dealt
from tinygrad_lm.train.objective import IGNORED


class PolicySteps(BatchStream):
    """The batches of a policy gradient: `steps(step, part)` -> tokens, targets, advantages and old log-probabilities,
    each (N, T), and with a value head the returns; for the objectives of objectives.py.

    Answers are drawn with the weights that the model has when they are asked for, at every `passes`-th step.
    reference   the model that the KL divergence is from; its weights do not change
    prompts     a list of Prompts (conversations.py), taken in shuffled order, epoch by epoch
    judge       judge(answers) -> rewards (N,)
    shares      the answers are drawn in so many pieces, which a run fixes: their sizes decide about the last bits
    """

    def __init__(self, model, reference, chat, prompts, judge, method, config, shares=1):
        super().__init__({"prompts": (Fraction(1), prompts)}, config.batch_size, None, config.seed, config.accumulate)
        if config.batch_size % method.group:
            raise ConfigError(
                f"policy gradient: batch_size must be a multiple of the group's {method.group} answers, "
                f"found {config.batch_size}"
            )
        check_room(model, chat, prompts, method.limit)
        self.model, self.reference, self.chat, self.judge = model, reference, chat, judge
        self.method, self.shares, self.batches, self.facts = method, shares, {}, {}

    @property
    def tokens_a_step(self):
        """How many tokens the last step learnt from."""
        return int(sum(fact["tokens"] for fact in self.facts.values()))

    def __call__(self, step, part=0):
        if step % self.method.passes == 0:
            self.batches[part], self.facts[part] = self.draw(step // self.method.passes, part)
        return self.batches[part]

    def draw(self, iteration, part):
        """A batch, and {name: number} of what was drawn."""
        method = self.method
        first = (iteration * self.accumulate + part) * self.batch_size  # the number of the first answer in the run
        rows, pieces = range(first, first + self.batch_size), self.pieces(self.batch_size)
        prompts = [self.prompt(row // method.group) for row in rows]
        drawn = draw_dealt(self.model, self.chat, prompts, method.limit, self.seed, rows, pieces)
        answers = as_batch(self.chat, prompts, drawn)
        mask = answers.targets != IGNORED
        logp, values = self.measured(self.model, answers)
        reference, _ = self.measured(self.reference, answers)
        scores = self.judge(answers)
        batch = learn_from(method, scores, logp, reference, values, mask)
        dtype = self.model.flat.data.dtype
        batch = answers.tokens, answers.targets, *(x.astype(dtype) for x in batch)
        return batch, facts_of(scores, logp - reference, logp, mask, answers.ended, method.group)

    def measured(self, model, answers):
        """log P of what was drawn and, of the model with a value head, its numbers, else None: (N, T) each.

        It is computed in the pieces that the step is, so before its update the ratio of probabilities is exactly 1.
        """
        with_values = self.method.advantage == "gae" and model is self.model

        def piece(here):
            tokens, targets = (to_device(x[here], model.flat.device) for x in (answers.tokens, answers.targets))
            with no_grad():
                if with_values:
                    return [x.numpy() for x in model.log_probability_and_values(tokens, targets)]
                return [model.log_probability(tokens, targets).numpy()]

        n, T = answers.tokens.shape
        found = [x.reshape(1 + with_values, -1, T) for x in dealt(piece, self.pieces(n))]
        logp, *values = np.concatenate(found, axis=1).astype(model.flat.data.dtype)
        return logp, *(values or [None])

    def pieces(self, n):
        """The numbers of n answers in as many pieces as the step has shares."""
        return [piece for piece in np.array_split(np.arange(n), self.shares) if len(piece)]

    def prompt(self, i):
        """Prompt number i of the run."""
        _, prompts = self.sources["prompts"]
        epoch, place = divmod(i, len(prompts))
        return prompts[shuffled(self.seed, epoch, len(prompts))[place]]

    def figures(self, step, loss):
        facts = list(self.facts.values())
        means = {name: float(np.mean([fact[name] for fact in facts])) for name in facts[0] if name != "tokens"}
        return means | {"surrogate": loss}

    def used(self, steps):
        prompts = steps // self.method.passes * self.accumulate * self.batch_size / self.method.group
        return {"prompts": {"epochs": prompts / len(self.sources["prompts"][1])}}

    def amount(self, steps):
        group, epochs = self.method.group, self.used(steps)["prompts"]["epochs"]
        prompts = self.batch_size * self.accumulate // group
        return f"{steps:,} steps of {prompts:,} prompts × {group} answers, {epochs:.2g} epochs"


def learn_from(method, scores, logp, reference, values, mask):
    """[advantages, old log-probabilities, returns if there are values], (N, T) each.

    scores (N,), the others (N, T)
    """
    if method.advantage == "gae":
        rewards = advantages.kl_in_reward(scores, logp, reference, mask, method.beta)
        found, returns = advantages.gae(rewards, values, mask, method.lam)
        return [found, logp, np.where(mask, returns, np.nan)]
    rewards = scores - method.beta * ((logp - reference) * mask).sum(axis=1)
    found = advantages.ADVANTAGES[method.advantage](rewards.reshape(-1, method.group)).reshape(-1, 1)
    weights = advantages.length_weights(mask, method.length, method.group, method.limit)
    return [found * weights * mask, logp]


def facts_of(scores, k1, logp, mask, ended, group):
    """{name: number} of answers, for the log. k1, logp: (N, T) a token's log π / π_ref and log π.

    reward and its standard error; kl, kl3: two estimates of KL(π ‖ π_ref) in nats per answer (Schulman 2020); length in
    tokens; ended: the share of answers that did; silent: the share of groups without a difference to learn from;
    entropy: nats per token; length_reward: the correlation of length and reward within groups
    """
    length = mask.sum(axis=1)
    return {
        "reward": scores.mean(),
        "kl": (k1 * mask).sum(axis=1).mean(),
        "reward_error": standard_error(scores.reshape(-1, group)),
        "kl3": (np.expm1(-k1 * mask) + k1 * mask).sum(axis=1).mean(),
        "length": length.mean(),
        "ended": ended.mean(),
        "silent": advantages.silent_groups(scores.reshape(-1, group)).mean() if group > 1 else 0.0,
        "entropy": -(logp * mask).sum() / mask.sum(),
        "length_reward": correlation(length, scores, group if group > 1 else len(scores)),
        "tokens": mask.sum(),
    }


def standard_error(rewards):
    """The standard error of the mean of rewards (P, G). Those of a prompt resemble each other, so it is that of the
    prompts' means; of one prompt that of its answers, and NaN of one answer."""
    independent = rewards.mean(axis=1) if len(rewards) > 1 else rewards[0]
    return independent.std(ddof=1) / len(independent) ** 0.5 if len(independent) > 1 else np.nan


def correlation(a, b, group):
    """The correlation of two numbers of each answer within groups, (N,) and (N,) -> a number; 0 if one is constant."""
    a, b = (advantages.centred(x.reshape(-1, group)) for x in (a, b))
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return (a * b).sum() / norms if norms > 0 else 0.0


def check_room(model, chat, prompts, limit):
    """Raise ConfigError unless each prompt and its answer fit into the model's context."""
    longest = max(len(chat.prompt(prompt.messages)) for prompt in prompts)
    if longest + limit > model.config.block_size + 1:
        raise ConfigError(
            f"policy gradient: the longest prompt has {longest} tokens, which leaves no room for answers of {limit}: "
            f"the model's context is {model.config.block_size}\n"
            "  hint : a lower limit, or shorter prompts"
        )
