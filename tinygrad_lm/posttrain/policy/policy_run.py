"""A policy, its reference, its prompts and its judge as one Trainer; and the folder of its run."""

from copy import deepcopy
from functools import partial

from tinygrad_lm.posttrain.data.prompts import check_unchanged, load_prompts
from tinygrad_lm.posttrain.objectives import policy_gradient, ppo
from tinygrad_lm.posttrain.policy.method import Method, in_iterations
from tinygrad_lm.posttrain.policy.pictures import draw_policy
from tinygrad_lm.posttrain.policy.policy import PolicySteps
from tinygrad_lm.posttrain.policy.success import failure, loss_of_reward, verified
from tinygrad_lm.posttrain.reward import judge, load_reward, scored
from tinygrad_lm.posttrain.run import ChatRun, check_on_cpu
from tinygrad_lm.train.config import adapted
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer


def policy_trainer(base, chat, prompts, held_out, reward, method, config, shares=None):
    """(trainer, validate) for a policy that begins as the chat model `base` is, which stays the reference."""
    check_on_cpu(base)
    with_values = method.advantage == "gae"
    policy = adapted(scored(base) if with_values else deepcopy(base), config)
    judged = verified if reward is None else partial(judge, load_reward(reward, base.flat.device))
    shares = shares or default_shares(config)
    steps = PolicySteps(policy, base, chat, prompts, judged, method, config, shares)
    objective = partial(policy_gradient, clip=method.clip)
    if with_values:
        objective = partial(ppo, clip=method.clip, value_weight=method.value_weight)
    trainer = Trainer(policy, steps, config, shares, objective=objective)
    trainer.ahead = method.passes  # no evaluation and no checkpoint between updates on the same answers
    measure = failure if reward is None else partial(loss_of_reward, judged)
    return trainer, partial(measure, chat=chat, prompts=held_out, limit=method.limit, seed=config.seed)


class PolicyRun(ChatRun):
    """A run of a policy gradient.

    config  besides: method (method.py); data: path, and reward, the run of a reward model or None; frontier: None, or
            [(KL, gain), …] of the best policies, the gain over the reward of the reference
    """

    picture = "policy.png"

    def draw(self):
        config = self.config
        known = self.frontier(), config["levels"], self.measure
        draw_policy(self.log, self.path / self.picture, config["title"], *known)

    def frontier(self):
        """[(KL, reward), …] of the best policies, if they are known: a reward model's scores have no zero, so it begins
        where the reference was, by the evaluation before the first step."""
        steps, losses = self.log.curve("validation")
        if not self.config["frontier"] or steps[:1] != [0]:
            return None
        return [(kl, gain - losses[0]) for kl, gain in self.config["frontier"]]

    def reopen(self, device):
        data, method = self.config["data"], Method(**self.config["method"])
        check_unchanged(data)
        config = in_iterations(self.train_config, method.passes)
        prompts, held_out = load_prompts(data["path"])
        base, shares = self.base_model(device), self.config["shares"]
        return policy_trainer(base, self.chat, prompts, held_out, data["reward"], method, config, shares)
