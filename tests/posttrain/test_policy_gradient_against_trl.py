"""Policy gradients beside TRL, on given answers and rewards; and where its definitions are others, in what they are.

TRL's trainers compute advantages, log-probabilities and losses; what they would draw is replaced.

P prompts, G answers to each, N = P G answers.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from small_chats import turns

from tinygrad_lm import ops
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain.data.json_lines import Conversation
from tinygrad_lm.posttrain.objectives import policy_gradient, surrogate
from tinygrad_lm.posttrain.policy.advantages import centred, length_weights, standardised
from tinygrad_lm.posttrain.policy.method import METHODS, Method
from tinygrad_lm.posttrain.policy.policy import facts_of, learn_from
from tinygrad_lm.posttrain.policy.rollouts import as_batch
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.train.objective import IGNORED

if find_spec("trl") is None:
    pytest.skip("TRL, the oracle of these tests, is not installed", allow_module_level=True)
import torch
from trl_peers import Published, agree_on, in_double, loss_and_gradients, our_loss_and_gradients

G, LIMIT, BETA, CLIP = 3, 6, 0.3, 0.2
REWARDS = np.array([1, 0, 0.25, -0.5, 1, 0])
LENGTHS = 6, 1, 3, 4, 2, 6  # of the answers; the first and the last are cut off at the limit
PROMPTS = "Add 1", "Sum 2"  # of as many tokens
# TRL's settings of our methods
SETTINGS = {
    "grpo": {"loss_type": "grpo", "scale_rewards": "group"},
    "dr-grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo", "scale_rewards": "group"},
}
# TRL calls transformers by names that are going to be others.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated and will be removed in v6:FutureWarning")
families = pytest.mark.parametrize("family", ["gpt2", "llama"])


class Given:
    """Answers to prompts, as a batch of ours and as one of TRL's, and the log-probabilities that both have of them."""

    def __init__(self, published, prompts=PROMPTS):
        rng, chat = np.random.default_rng(0), published.chat
        self.published, self.prompts = published, [turns(text) for text in prompts for _ in range(G)]
        self.ids = [rng.integers(6, chat.vocab_size, n).tolist() for n in LENGTHS]
        for ids in self.ids:
            if len(ids) < LIMIT:
                ids[-1] = chat.end
        asked = [Conversation("", messages, "", "equal") for messages in self.prompts]
        *_, self.tokens, self.targets = as_batch(chat, asked, self.ids)
        self.mask = self.targets != IGNORED
        self.model = published.ours()
        self.logp, self.reference = (
            model.log_probability(self.tokens, self.targets).numpy()
            for model in (self.model, published.ours("reference"))
        )
        self.old = self.logp + self.mask * rng.normal(0, 0.3, self.mask.shape)  # as if some updates ago

    def trainer(self, kind="GRPO", rewards=REWARDS, **settings):
        """A trainer and what it makes of the answers."""
        model = self.published.theirs()
        model.config._name_or_path = str(self.published.folder / "reference")
        asked = [{"prompt": messages} for messages in self.prompts]
        settings |= {"per_device_train_batch_size": len(asked), "num_generations": G, "max_completion_length": LIMIT}
        trainer = self.published.trainer(kind, asked, settings, model, reward_funcs=lambda **_: rewards.tolist())
        drawn = self.ids if kind == "RLOO" else (self.ids, None)
        trainer._generate_single_turn = lambda *_: drawn
        trainer.current_gradient_accumulation_steps = 1
        with in_double():
            return trainer, trainer._generate_and_score_completions(asked)

    def as_theirs(self, x):
        """(N, T), of which the answers' entries are moved to the left, 0 after them."""
        return torch.tensor([[*x[i][here], *[0] * (LIMIT - here.sum())] for i, here in enumerate(self.mask)])

    def ours(self, advantages, old, clip=CLIP):
        """Loss and gradients of ours for advantages of tokens or of answers."""
        batch = self.tokens, self.targets, np.broadcast_to(advantages, self.mask.shape) * self.mask, old
        return our_loss_and_gradients(self.model, policy_gradient(self.model, batch, NONE, clip=clip)[0])


def method(name):
    """A method of ours by name. DAPO's length is a setting, its advantage GRPO's."""
    known = METHODS | {"dapo": {"advantage": "standardised", "length": "group"}}
    return Method(**known[name], group=G, limit=LIMIT, clip=CLIP)


def with_their_epsilon(rewards, found):
    """GRPO's advantages with TRL's std + 0.0001, from those with std."""
    std = rewards.reshape(-1, G).std(axis=1, ddof=1).repeat(G)
    return found * (std / (std + 1e-4))[:, None]


@families
@pytest.mark.parametrize("name", SETTINGS)
def test_loss_and_gradient_on_given_answers(family, name, tmp_path):
    """Where the ratio is 1, and after updates, where some of it is clipped."""
    given = Given(Published(tmp_path, family))
    trainer, batch = given.trainer(**SETTINGS[name])
    advantages, logp = learn_from(method(name), REWARDS, given.logp, given.reference, None, given.mask)
    if name != "dr-grpo":
        advantages = with_their_epsilon(REWARDS, advantages)
    if name == "dapo":  # ours is the mean over a group's tokens, as in its equation 8; TRL's over the batch's
        weights = [length_weights(given.mask, "group", n, LIMIT) for n in (G, len(given.mask))]
        assert abs(weights[0] - weights[1]).max() > 0.01
        advantages = advantages / weights[0] * weights[1]
    agree_on(given.ours(advantages, logp), loss_and_gradients(trainer, batch))

    found = given.ours(advantages, given.old)
    assert abs(found[0] - given.ours(advantages, given.old, clip=0)[0]) > 0.01
    agree_on(found, loss_and_gradients(trainer, batch | {"old_per_token_logps": given.as_theirs(given.old)}))


@pytest.mark.parametrize(("scale", "formula"), [("group", standardised), ("none", centred)])
def test_advantages_of_groups(scale, formula, tmp_path):
    """TRL divides by std + 0.0001. A group of equal rewards teaches nothing there, too."""
    rewards = np.array([1, 0, 0.25, 0.5, 0.5, 0.5])
    _, batch = Given(Published(tmp_path, "llama")).trainer(rewards=rewards, scale_rewards=scale)
    found = formula(rewards.reshape(-1, G)).reshape(-1, 1)
    expected = with_their_epsilon(rewards, found) if scale == "group" else found
    agree(batch["advantages"].numpy(), expected[:, 0], "advantages")
    assert not found[G:].any()
    assert not batch["advantages"][G:].any()


def test_micro_batches(tmp_path):
    """TRL's "dapo" counts the tokens of the whole step, as we do; its "bnpo" is a mean of the parts' means."""
    given = Given(Published(tmp_path, "llama"))
    halves = slice(0, G), slice(G, 2 * G)
    count = given.mask.sum()
    parts = [given.mask[here].sum() for here in halves]
    for kind, weights in ("dapo", [1 / count, 1 / count]), ("bnpo", [1 / (2 * n) for n in parts]):
        trainer, batch = given.trainer(loss_type=kind, gradient_accumulation_steps=2)
        trainer.current_gradient_accumulation_steps = 2
        whole = {"num_items_in_batch": batch["num_items_in_batch"]}
        cut = [{name: x[here] for name, x in batch.items() if name not in whole} | whole for here in halves]
        losses, gradients = zip(*(loss_and_gradients(trainer, part) for part in cut), strict=True)
        advantages = batch["advantages"].numpy()[:, None] * np.repeat(weights, G)[:, None] * len(given.mask)
        found = given.ours(advantages, given.logp)
        agree_on(found, (sum(losses), {name: sum(g[name] for g in gradients) for name in found[1]}))


@families
def test_rloo(family, tmp_path):
    """The KL divergence in the reward, k1 of the whole answer; and TRL's ratio is the whole answer's, not a token's.

    Where the ratio is 1 that is the same gradient, of a loss that counts each answer once and not once a token.
    """
    given = Given(Published(tmp_path, family))
    trainer, batch = given.trainer("RLOO", beta=BETA)
    settings = Method(**METHODS["rloo"], group=G, limit=LIMIT, beta=BETA)
    advantages, logp = learn_from(settings, REWARDS, given.logp, given.reference, None, given.mask)
    each = advantages.sum(axis=1) / LENGTHS
    agree(batch["advantages"].numpy(), each, "advantages")
    loss, gradients = loss_and_gradients(trainer, batch)
    agree(loss, -each.mean(), "loss")
    found = given.ours(advantages, logp)
    agree_on((loss, found[1]), (loss, gradients))
    agree(found[0], -(each * LENGTHS).mean(), "our loss")

    old = given.old.sum(axis=1)
    ratio_of_answers = surrogate(given.model.log_probability(given.tokens, given.targets).sum(axis=1), old, each, CLIP)
    found = our_loss_and_gradients(given.model, -ratio_of_answers.mean())
    agree_on(found, loss_and_gradients(trainer, batch | {"old_logps": torch.tensor(old)}))


@pytest.mark.parametrize("weighted", [True, False])
def test_kl_in_the_loss(weighted, tmp_path):
    """TRL's GRPO adds β k3 to each token's loss, times the ratio unless told otherwise; ours has it in the reward."""
    given = Given(Published(tmp_path, "llama"))
    trainer, batch = given.trainer(**SETTINGS["grpo"], beta=BETA, use_bias_correction_kl=weighted)
    batch["old_per_token_logps"] = given.as_theirs(given.old)
    logp = given.model.log_probability(given.tokens, given.targets)
    weights = length_weights(given.mask, "own", G, LIMIT)
    advantages = batch["advantages"].numpy()[:, None]
    gain = surrogate(logp, given.old, advantages * given.mask, CLIP)
    back = given.reference - logp
    k3 = ops.exp(back) - back - 1
    k3 = ops.exp(logp - given.old) * k3 if weighted else k3
    found = our_loss_and_gradients(given.model, ((BETA * k3 - gain) * weights).sum() / len(given.mask))
    agree_on(found, loss_and_gradients(trainer, batch))


def test_the_kl_divergence_that_is_reported(tmp_path):
    """TRL's is k3 a token, ours k3 an answer."""
    given = Given(Published(tmp_path, "llama"))
    trainer, batch = given.trainer(**SETTINGS["grpo"], beta=BETA)
    loss_and_gradients(trainer, batch)
    ended = np.ones(len(given.mask), bool)
    facts = facts_of(REWARDS, given.logp - given.reference, given.logp, given.mask, ended, G)
    found = facts["kl3"] / facts["length"]
    agree(trainer._metrics["train"]["kl"], [found], "KL divergence")


def test_learned_positions_move_with_the_padding(tmp_path):
    """TRL pads prompts on the left and counts positions from there, so GPT-2 reads a shorter prompt further to the
    right than it would alone: its log-probabilities are those of the model whose positions have moved as far."""
    given = Given(Published(tmp_path, "gpt2"), ("Add 1", "Please sum 2"))
    trainer, batch = given.trainer(**SETTINGS["grpo"])
    with in_double(), torch.no_grad():
        ids, there = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
        theirs, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, there, LIMIT)
    theirs *= batch["completion_mask"]
    moved = int((batch["prompt_mask"][0] == 0).sum())
    assert moved > 0
    alone = given.as_theirs(given.logp).numpy()
    agree(theirs[G:].numpy(), alone[G:], "longer prompts")
    assert abs(theirs[:G].numpy() - alone[:G]).max() > 0.1
    positions = given.model.flat["wpe.weight"].data
    positions[:-moved] = positions[moved:].copy()
    shifted = given.model.log_probability(given.tokens, given.targets).numpy()
    agree(theirs[:G].numpy(), given.as_theirs(shifted).numpy()[:G], "shorter prompts")
