"""Losses and gradients beside TRL, on the same models and data; and where its definitions are others, in what they are.

TRL's own trainers compute them, without training. Policy gradients: test_policy_gradient_against_trl.py.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from small_chats import turns

from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain.data.conversations import Conversations, Pairs
from tinygrad_lm.posttrain.data.json_lines import Conversation, Pair
from tinygrad_lm.posttrain.objectives import bradley_terry, dpo
from tinygrad_lm.posttrain.reward import HEAD, scored, whole_answers
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.train.objective import IGNORED, next_token

if find_spec("trl") is None:
    pytest.skip("TRL, the oracle of these tests, is not installed", allow_module_level=True)
import transformers
from pretrained.published import placed
from trl_peers import Published, agree_on, loss_and_gradients, our_loss_and_gradients

CONVERSATIONS = [
    turns("Hello", "Hi there."),
    turns("2 + 2?", "4", "And 3 + 3?", "6, I think."),
    turns("Who?", "A model.", system="Be brief."),
]
PAIRS = [
    Pair(turns("Hello"), "Hi there.", "What?"),
    Pair(turns("2 + 2?", "4", "And 3 + 3?"), "6", "7, or perhaps 8"),
    Pair(turns("Who?", system="Be brief."), "A model.", "I"),
]
BETA = 0.3
# TRL calls transformers by names that are going to be others.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated and will be removed in v6:FutureWarning")
families = pytest.mark.parametrize("family", ["gpt2", "llama"])


def batch_of_all(stream):
    (batch,) = stream.once()
    return batch


def all_of(trainer):
    return trainer.data_collator([*trainer.train_dataset])


# ---- supervised fine-tuning


def imitation(published, **settings):
    """TRL's trainer, its batch and ours of the same conversations in the same order."""
    found, theirs = CONVERSATIONS, [{"messages": messages} for messages in CONVERSATIONS]
    if "completion_only_loss" in settings:
        found = [messages for messages in found if len(messages) <= 3]  # one answer each, for TRL learns the last
        theirs = [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in found]
    stream = Conversations([Conversation("", m, "", "equal") for m in found], published.chat, len(found), 64)
    trainer = published.trainer("SFT", theirs, settings)
    return trainer, all_of(trainer), stream.batch(stream.rows)


@families
def test_supervised_fine_tuning(family, tmp_path):
    """The same ids, of which the same are learnt; the mean over all of them, however a step is cut."""
    published = Published(tmp_path, family)
    trainer, batch, (tokens, targets) = imitation(published, assistant_only_loss=True)
    there = batch["attention_mask"].numpy()[:, 1:] == 1
    assert (batch["input_ids"].numpy()[:, :-1] == tokens)[there].all()
    assert (batch["labels"].numpy()[:, 1:] == targets).all()
    model = published.ours()
    found = our_loss_and_gradients(model, next_token(model, (tokens, targets), NONE)[0])
    agree_on(found, loss_and_gradients(trainer, batch))

    parts = [{name: x[here] for name, x in batch.items()} for here in (slice(0, 1), slice(1, 3))]
    each = [loss_and_gradients(trainer, part, num_items_in_batch=(targets != IGNORED).sum()) for part in parts]
    losses, gradients = zip(*each, strict=True)
    agree_on(found, (sum(losses), {name: sum(g[name] for g in gradients) for name in found[1]}))


def test_a_completion_is_more_than_the_answer(tmp_path):
    """With completion_only_loss TRL learns what its template writes after an answer's end, too; and so in DPO."""
    published = Published(tmp_path, "llama", after="\n")
    trainer, batch, (tokens, targets) = imitation(published, completion_only_loss=True)
    assert (batch["labels"].numpy()[:, 1:] != targets).sum() == len(targets)
    targets = with_what_follows(published, targets)
    assert (batch["labels"].numpy()[:, 1:] == targets).all()
    model = published.ours()
    found = our_loss_and_gradients(model, next_token(model, (tokens, targets), NONE)[0])
    agree_on(found, loss_and_gradients(trainer, batch))

    trainer, (tokens, targets) = preferences(published)
    targets = with_what_follows(published, targets)
    before = answers_logp(published.ours("reference"), tokens, targets)
    found = our_loss_and_gradients(model, dpo(model, (tokens, targets, before), NONE, beta=BETA)[0])
    agree_on(found, loss_and_gradients(trainer, all_of(trainer)))


def with_what_follows(published, targets):
    """Targets that also have the line break after each answer's end."""
    targets, ended = targets.copy(), targets == published.chat.end
    targets[..., 1:][ended[..., :-1]] = published.chat.tokenizer.encode("\n")
    return targets


# ---- preferences


def preferences(published):
    """TRL's trainer of DPO, its rows, and our batch of the same pairs."""
    stream = Pairs(PAIRS, published.chat, len(PAIRS), 64)
    said = lambda text: [{"role": "assistant", "content": text}]
    rows = [{"prompt": p.prompt, "chosen": said(p.chosen), "rejected": said(p.rejected)} for p in PAIRS]
    trainer = published.trainer("DPO", rows, {"beta": BETA}, ref_model=published.theirs("reference"))
    return trainer, stream.batch(stream.rows)


def answers_logp(model, tokens, targets):
    """log P of each answer, (B, 2)."""
    flat = [x.reshape(-1, x.shape[-1]) for x in (tokens, targets)]
    return model.log_probability(*flat).numpy().sum(axis=1).reshape(-1, 2)


@families
def test_dpo(family, tmp_path):
    published = Published(tmp_path, family)
    trainer, (tokens, targets) = preferences(published)
    model = published.ours()
    before = answers_logp(published.ours("reference"), tokens, targets)
    found = our_loss_and_gradients(model, dpo(model, (tokens, targets, before), NONE, beta=BETA)[0])
    agree_on(found, loss_and_gradients(trainer, all_of(trainer)))

    logp = answers_logp(model, tokens, targets)
    rewards = BETA * (logp - before)
    expected = {
        "logps/chosen": logp[:, 0],
        "logps/rejected": logp[:, 1],
        "rewards/chosen": rewards[:, 0],
        "rewards/rejected": rewards[:, 1],
        "rewards/margins": rewards[:, 0] - rewards[:, 1],
        "rewards/accuracies": rewards[:, 0] > rewards[:, 1],
    }
    for name, values in expected.items():
        agree(trainer._metrics["train"][name], [values.mean()], name)


@pytest.mark.parametrize("pad", ["<|pad|>", None])
@families
def test_reward_model(family, pad, tmp_path):
    """Bradley and Terry's loss of scores at the last token, by a head without a bias.

    A model of transformers looks for the last token that is not padding. Where a tokenizer has
    none, TRL pads with the token that ends an answer, and the score is read one token early.
    """
    published = Published(tmp_path, family, pad=pad)
    theirs = published.theirs(kind=transformers.AutoModelForSequenceClassification, num_labels=1)
    stream = Pairs(PAIRS, published.chat, len(PAIRS), 64)
    tokens, ends = whole_answers(*stream.batch(stream.rows))
    rows = [
        {name: x[: end + 1].tolist() for name, x, end in zip(("chosen_ids", "rejected_ids"), *pair, strict=True)}
        for pair in zip(tokens, ends, strict=True)
    ]
    trainer = published.trainer("Reward", rows, model=theirs)
    loss, gradients = loss_and_gradients(trainer, all_of(trainer))

    base = published.ours()
    model = scored(base)
    model.flat[HEAD].data[...] = theirs.score.weight.detach().numpy().T
    ours = bradley_terry(model, (tokens, ends - (pad is None)), NONE)[0]
    ours.backward()
    agree(model.flat[HEAD].grad, gradients.pop("score.weight").T, "gradient of the head")
    found = placed(base, {name: model.flat[name].grad for name in base.flat})
    assert not found.pop("lm_head.weight", np.zeros(1)).any()
    agree_on((ours.item(), found), (loss, gradients))
