"""Batches of conversations and pairs: what is learnt, padding and packing change nothing, and nothing is lost silently.

The names of the mistakes that these tests are about, such as off by one and padding counted, are the field's.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_chats import conversations, turns
from small_gpt import shaken, tiny

from tinygrad_lm import Tensor, ops
from tinygrad_lm.data.synthetic.speeches import Pair
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.nn.context import Context
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data.conversations import Conversations, Pairs, pack
from tinygrad_lm.posttrain.measure import evaluate_by_task, evaluate_conversations, exact_match
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.train.objective import IGNORED, next_token
from tinygrad_lm.train.shares import starts_of

CHAT = Chat(CharTokenizer(" abcdé"))
FAMILIES = ("gpt2", "modern-tiny")
by_family = pytest.mark.parametrize("family", FAMILIES)


def model_of(family, T=60):
    return shaken(tiny(family, vocab_size=CHAT.vocab_size, block_size=T))


def asked(*conversations):
    return [SimpleNamespace(messages=messages) for messages in conversations]


SOME = asked(turns("a", "b"), turns("abc", "cba", "d", ""), turns("", "abcd abcd"), turns("b", "d", system="aa"))


def gradient(model, batch, context=None):
    """Loss, count and gradient of a batch."""
    model.flat.zero_grad()
    loss, count = next_token(model, batch, context or Context())
    loss.backward()
    return loss.item(), int(count), model.flat.grad.copy()


def context_of(stream, batch):
    return Context(document_starts=starts_of(stream, batch[0]))


# ---- what is learnt


@settings(max_examples=30)
@given(drawn=st.lists(conversations(), min_size=1, max_size=4))
def test_targets_are_the_answers_and_their_ends(drawn):
    """The target of a position is the next token: the first of an answer is learnt where its prompt ends."""
    chat = Chat(CharTokenizer("".join(sorted({c for m in drawn for x in m for c in x["content"]} | {"a"}))))
    stream = Conversations(asked(*drawn), chat, batch_size=len(drawn), block_size=200)
    tokens, targets = stream(0)
    assert targets.shape == tokens.shape
    for i, row in enumerate(stream.numbers(0)):
        ids, learn = chat.render(drawn[row])
        n = len(ids) - 1
        assert tokens[i, :n].tolist() == ids[:-1].tolist()
        assert (targets[i, :n] == np.where(learn[1:], ids[1:], IGNORED)).all()
        assert (targets[i, n:] == IGNORED).all()
        first = next(j for j, message in enumerate(drawn[row]) if message["role"] == "assistant")
        assert np.flatnonzero(targets[i] != IGNORED)[0] == len(chat.prompt(drawn[row][:first])) - 1


@by_family
def test_the_gradient_is_the_sum_over_the_answers_by_hand(family):
    model, messages = model_of(family), turns("abc", "ba")
    found = gradient(model, Conversations(asked(messages), CHAT, 1, 60)(0))
    ids, prompt = CHAT.render(messages)[0], len(CHAT.prompt(messages[:1]))
    model.flat.zero_grad()
    logits = model(ids[None])
    picked = [logits[0, at - 1] for at in range(prompt, len(ids))]
    loss = sum(ops.cross_entropy(z, np.array(i)) for z, i in zip(picked, ids[prompt:], strict=True)) / len(picked)
    loss.backward()
    agree(found[0], loss.item(), "loss")
    agree(found[2], model.flat.grad, "gradient")
    assert found[1] == len("ba") + 1


# ---- padding


@by_family
def test_padding_changes_nothing(family):
    """Alone and padded, to 1e-12 in float64; whatever the padding is, not a bit."""
    model, stream = model_of(family), Conversations(SOME, CHAT, len(SOME), 60)
    tokens, targets = stream(0)
    found = gradient(model, (tokens, targets))
    losses = []
    for i in range(len(SOME)):
        n = stream.sizes[stream.numbers(0)[i]]
        losses.append(gradient(model, (tokens[i : i + 1, :n], targets[i : i + 1, :n])))
    count = sum(n for _, n, _ in losses)
    agree(found[0], sum(loss * n for loss, n, _ in losses) / count, "loss", 1e-12)
    agree(found[2], sum(grad * n for _, n, grad in losses) / count, "gradient", 1e-12)
    sizes = np.array([stream.sizes[j] for j in stream.numbers(0)])
    padding = np.arange(tokens.shape[1]) >= sizes[:, None]
    assert padding.any()
    other = np.where(padding, np.random.default_rng(0).integers(0, CHAT.vocab_size, tokens.shape), tokens)
    again = gradient(model, (other, targets))
    assert again[:2] == found[:2]
    with no_grad():
        assert (model(other).data[~padding] == model(tokens).data[~padding]).all()


def test_every_batch_is_as_wide_where_devices_want_it():
    stream = Conversations(SOME, CHAT, 1, 60, even=True)
    assert {stream(step)[0].shape[1] for step in range(8)} == {max(stream.sizes)}
    assert len({Conversations(SOME, CHAT, 1, 60)(step)[0].shape[1] for step in range(8)}) > 1


# ---- packing


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_packed_rows_hold_everything_once(lengths):
    rows = pack([np.zeros((2, n)) for n in lengths], 9)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 9 for row in rows)
    assert sum(sum(lengths[i] for i in row) <= 4 for row in rows) <= 1  # or two of them would be one


def test_packed_conversations_do_not_see_each_other():
    """For rotary positions a conversation's logits are those that it has alone; no gradient crosses the border."""
    model = model_of("modern-tiny", 24)
    stream = Conversations(SOME, CHAT, 4, 24, packed=True)
    assert len(stream.rows) < len(stream.kept) == len(SOME)
    batch = stream(0)
    assert batch[0].shape == (4, 24)
    context = context_of(stream, batch)
    for row, starts in zip(batch[0], context.document_starts, strict=True):
        logits = model(row[None], Context(document_starts=starts[None])).data[0]
        for start in np.unique(starts):
            alone = np.flatnonzero(starts == start)
            agree(logits[alone], model(row[None, alone]).data[0], "logits", 1e-12)
    packed = sum_of(model, stream)
    padded = sum_of(model, Conversations(SOME, CHAT, 4, 24))
    assert packed[1] == padded[1]
    agree(packed[0], padded[0], "loss", 1e-12)
    agree(packed[2], padded[2], "gradient", 1e-12)


def sum_of(model, stream):
    """The summed loss, count and gradient of all rows of a stream."""
    found = [gradient(model, batch, context_of(stream, batch)) for batch in stream.once()]
    return sum(x * n for x, n, _ in found), sum(n for _, n, _ in found), sum(g * n for _, n, g in found)


def test_packing_needs_a_first_id_that_occurs_nowhere_else():
    chat = Chat(CHAT.tokenizer)
    chat.document_token = None
    with pytest.raises(ConfigError, match="packed rows need a token that begins a conversation and occurs nowhere els"):
        Conversations(SOME, chat, 1, 60, packed=True)


# ---- the context


def test_what_does_not_fit_is_counted():
    """A conversation is shortened to the answers that fit whole; one without such is skipped."""
    long = [turns("a", "b", "abcd", "abcdabcd"), turns("abcdabcdabcdabcd", "b"), turns("a", "b"), turns("a", "b" * 20)]
    stream = Conversations(asked(*long), CHAT, 1, 12)
    assert ([x.messages for x in stream.kept], stream.shortened, stream.skipped) == ([long[0], long[2]], 1, 2)
    assert stream.amounts() == "2 conversations (1 shortened to the answers that fit, 2 skipped as too long)"
    rows = {tuple(stream(step)[1][0][stream(step)[1][0] != IGNORED]) for step in range(2)}
    assert rows == {tuple(CHAT.answer("b"))}
    assert {len(row[0]) for row in stream.rows} == {len(CHAT.render(turns("a", "b"))[0]) - 1}
    with pytest.raises(DataError, match="none of 2 conversations fits into a context of 12 tokens"):
        Conversations(asked(long[1], long[3]), CHAT, 1, 12)


@settings(max_examples=30)
@given(drawn=st.lists(conversations(), min_size=1, max_size=4), size=st.integers(5, 40), packed=st.booleans())
def test_no_row_without_something_to_learn(drawn, size, packed):
    chat = Chat(CharTokenizer("".join(sorted({c for m in drawn for x in m for c in x["content"]} | {"a"}))))
    try:
        stream = Conversations(asked(*drawn), chat, 3, size, packed=packed)
    except DataError:
        return
    assert len(stream.kept) + stream.skipped == len(drawn)
    for row in stream.rows:
        assert row.shape[1] <= size
        assert (row[1] != IGNORED).any()
        ends = np.diff((row[1] != IGNORED).astype(int), append=0) == -1
        assert (row[1][ends] == chat.end).all()  # no answer is cut in two


def test_a_conversation_that_just_fits():
    """Its last token is only a target, so the context may be one shorter."""
    (n,) = Conversations(SOME[:1], CHAT, 1, 60).sizes
    assert Conversations(SOME[:1], CHAT, 1, n).skipped == 0
    with pytest.raises(DataError):
        Conversations(SOME[:1], CHAT, 1, n - 1)


# ---- order


def test_each_epoch_has_every_row_once_and_a_batch_is_its_number_s():
    stream = Conversations(SOME, CHAT, 3, 60, seed=5, accumulate=2)
    drawn = [i for step in range(4) for part in range(2) for i in stream.numbers(step, part)]
    epochs = [drawn[i : i + 4] for i in range(0, 24, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1
    again = Conversations(SOME, CHAT, 3, 60, seed=5, accumulate=2)
    assert all((a == b).all() for a, b in zip(stream(3, 1), again(3, 1), strict=True))
    assert Conversations(SOME, CHAT, 24, 60, seed=6).numbers(0) != Conversations(SOME, CHAT, 24, 60, seed=5).numbers(0)
    assert stream.used(2) == {"train": {"epochs": 3.0}}
    assert stream.amount(2) == "2 steps of 6 rows, 3 epochs"
    assert stream.tokens_a_step == round(6 * np.mean(stream.sizes))
    assert stream.beginning(1) == [CHAT.begin]


# ---- pairs


def test_of_a_pair_the_two_last_answers_are_learnt():
    """Not those of the prompt; the end is among the tokens, for what is read there."""
    pairs = [Pair(turns("a", "b", "c"), "d", "abc"), Pair(turns("d"), "", "d d")]
    stream = Pairs(pairs, CHAT, 2, 60)
    tokens, targets = stream(0)
    assert tokens.shape == targets.shape == (2, 2, max(x.shape[1] for row in stream.rows for x in row))
    for row, number in enumerate(stream.numbers(0)):
        for side, text in enumerate(pairs[number][1:]):
            learnt = targets[row, side] != IGNORED
            assert targets[row, side][learnt].tolist() == CHAT.answer(text).tolist()
            first, last = np.flatnonzero(learnt)[[0, -1]]
            assert first == len(CHAT.prompt(pairs[number].prompt)) - 1
            assert tokens[row, side, last + 1] == CHAT.end
            assert tokens[row, side, : last + 2].tolist() == [
                *CHAT.prompt(pairs[number].prompt),
                *CHAT.answer(text),
            ]


def test_pairs_that_do_not_fit_are_counted():
    pairs = [Pair(turns("a"), "b", "c"), Pair(turns("a"), "b", "c" * 60)]
    stream = Pairs(pairs, CHAT, 1, 20)
    assert (stream.kept, stream.skipped) == (1, 1)
    with pytest.raises(DataError, match="none of 1 pairs fits into a context of 20 tokens"):
        Pairs(pairs[1:], CHAT, 1, 20)


# ---- measured


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_is_the_mean_over_all_that_is_learnt(packed):
    model = model_of("modern-tiny")
    stream = Conversations(SOME, CHAT, 3, 60, packed=packed)
    loss, count, _ = sum_of(model, Conversations(SOME, CHAT, 1, 60))
    agree(evaluate_conversations(model, stream), loss / count, "loss", 1e-12)
    parts = {"a": Conversations(SOME[:1], CHAT, 3, 60), "b": Conversations(SOME[1:], CHAT, 3, 60)}
    mean, by_task = evaluate_by_task(model, parts)
    agree(mean, loss / count, "mean", 1e-12)
    assert by_task == {task: evaluate_conversations(model, part) for task, part in parts.items()}


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_is_right_if_all_of_it_is_the_likeliest(packed):
    """By a model of which every logit is known: after a token it expects the next one of a table."""
    following = {CHAT.special["assistant"]: "b", CHAT.tokenizer.encode("b")[0]: CHAT.end}
    table = {k: CHAT.tokenizer.encode(v)[0] if isinstance(v, str) else v for k, v in following.items()}

    class Told:
        flat = SimpleNamespace(device="cpu")

        def features(self, tokens, context):
            return Tensor.of(tokens)

        def logits(self, x):
            z = np.zeros((*x.shape, CHAT.vocab_size))
            for i, token in enumerate(x.data):
                z[i, table.get(int(token), 0)] = 1
            return Tensor.of(z)

    conversations = asked(turns("a", "b"), turns("a", "b", "c", "bb"), turns("b", "d"), turns("b", "b", system="aa"))
    stream = Conversations(conversations, CHAT, 3, 60, packed=packed)
    assert exact_match(Told(), stream) == 3 / 5
