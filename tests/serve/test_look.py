"""What the page shows of the model is what the model computes: by NumPy, a line each."""

import numpy as np
import pytest
from chat_templates import CHATML
from small_chats import CONVERSATIONS, json_tokenizer, tokenizer_named, turns
from small_gpt import shaken, tiny

from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.generation.sampling import Sampler
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.chat.template import TemplateChat
from tinygrad_lm.serve import look
from tinygrad_lm.serve.inspection import message_parts
from tinygrad_lm.serve.spelling import beginning, spell, spell_all


@pytest.fixture(scope="module", params=["gpt2", "modern-tiny"])
def model(request):
    return shaken(tiny(request.param, vocab_size=9, block_size=12))


TEXT = [3, 1, 4, 1, 5, 8, 2, 6, 5, 3]


def distributions(model, text):
    """P of what follows each token, (T, V)."""
    with no_grad():
        p = np.exp(model(np.array([text])).numpy()[0])
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("rows", [64, 9, 4, 1])
def test_scores_of_each_token(model, rows, monkeypatch):
    monkeypatch.setattr(look, "ROWS", rows)
    found, p = look.scores(model, TEXT), distributions(model, TEXT)[:-1]
    own = p[np.arange(9), TEXT[1:]]
    np.testing.assert_allclose(found.logprobs, np.log(own), rtol=1e-12)
    np.testing.assert_array_equal(found.ranks, [sorted(row)[::-1].index(x) + 1 for row, x in zip(p, own, strict=True)])
    np.testing.assert_allclose(found.entropies, -(p * np.log(p)).sum(1), rtol=1e-12)


def test_a_single_token_has_no_scores(model):
    assert [len(column) for column in look.scores(model, [3])] == [0, 0, 0]


def test_the_next_token(model):
    logits = look.next_logits(model, TEXT)
    shown, before, after, drawable = look.candidates(logits, Sampler(), TEXT, 9, 9)
    p = distributions(model, TEXT)[-1]
    np.testing.assert_allclose([one.before for one in shown], p[[one.token for one in shown]], rtol=1e-12)
    np.testing.assert_allclose([one.after for one in shown], [one.before for one in shown], rtol=1e-12)
    assert [one.before for one in shown] == sorted((one.before for one in shown), reverse=True)
    assert [one.rank for one in shown] == list(range(1, 10))
    assert before == pytest.approx(after) == pytest.approx(-(p * np.log(p)).sum())
    assert drawable == 9


SETTINGS = {
    "temperature": ({"temperature": 0.5}, lambda p: p**2),
    "likeliest": ({"temperature": 0}, lambda p: p == p.max()),
    "top-k": ({"top_k": 3}, lambda p: p * (p >= np.sort(p)[-3])),
    "min-p": ({"min_p": 0.4}, lambda p: p * (p >= 0.4 * p.max())),
    "top-p": ({"top_p": 0.6}, lambda p: p * ((np.where(p[:, None] > p, p[:, None], 0).sum(0)) < 0.6)),
    "all": ({"temperature": 2.0, "top_k": 4}, lambda p: p**0.5 * (p >= np.sort(p)[-4])),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_settings_make_of_it(name, model):
    settings, expected = SETTINGS[name]
    shown, _, entropy, drawable = look.candidates(look.next_logits(model, TEXT), Sampler(**settings), TEXT, 9, 9)
    q = expected(distributions(model, TEXT)[-1]) * 1.0
    q /= q.sum()
    np.testing.assert_allclose([one.after for one in shown], q[[one.token for one in shown]], rtol=1e-9, atol=1e-15)
    assert drawable == (q > 0).sum()
    assert entropy == pytest.approx(-sum(x * np.log(x) for x in q if x))


def test_repetition_penalty_and_ids_that_are_not_drawn_change_only_what_is_drawn(model):
    logits = look.next_logits(model, TEXT)
    shown, *_ = look.candidates(logits, Sampler(repetition_penalty=5.0), TEXT, 7, 9)
    p = distributions(model, TEXT)[-1]
    np.testing.assert_allclose([one.before for one in shown], p[[one.token for one in shown]], rtol=1e-12)
    z = np.where(np.isin(np.arange(9), TEXT), np.where(logits > 0, logits / 5, logits * 5), logits)[:7]
    q = np.append(np.exp(z) / np.exp(z).sum(), [0, 0])
    np.testing.assert_allclose([one.after for one in shown], q[[one.token for one in shown]], rtol=1e-9)


def test_the_token_that_came_is_shown_wherever_it_ranks(model):
    logits = look.next_logits(model, TEXT)
    order = np.argsort(-logits).tolist()
    shown = look.candidates(logits, Sampler(), TEXT, 9, 3, [order[6]])[0]
    assert [(one.token, one.rank) for one in shown] == [*zip(order[:3], [1, 2, 3], strict=True), (order[6], 7)]
    assert len(look.candidates(logits, Sampler(), TEXT, 9, 3, [order[1]])[0]) == 3


@pytest.mark.parametrize("messages", CONVERSATIONS[:3], ids=len)
@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_the_parts_of_a_prompt_are_its_messages(messages, tokenizer):
    chat = Chat(tokenizer_named(tokenizer))
    messages = messages[:-1]
    prompt = chat.prompt(messages).tolist()
    parts = message_parts(chat, messages, prompt)
    for number, message in enumerate(messages):
        own = [token for token, part in zip(prompt, parts, strict=True) if part == number]
        assert own == chat.tokenizer.encode(message["content"]).tolist()
    assert all(token >= chat.tokenizer.vocab_size for token, part in zip(prompt, parts, strict=True) if part is None)


def test_the_parts_of_a_published_template(tmp_path):
    pytest.importorskip("jinja2")
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    settings = {"eos_token": "<|endoftext|>", "chat_template": CHATML}
    chat = TemplateChat(json_tokenizer(tmp_path, special, settings=settings))
    messages = turns("the user", "the end", "the the")
    prompt = chat.prompt(messages).tolist()
    parts = message_parts(chat, messages, prompt)
    for number, message in enumerate(messages):
        own = [token for token, part in zip(prompt, parts, strict=True) if part == number]
        assert chat.tokenizer.decode(own) == message["content"]
    assert spell(chat, chat.end)["token"] == "<|im_end|>"


def test_tokens_are_spelled():
    chat = Chat(tokenizer_named("byte"))
    spelled = spell_all(chat, [256, *"é".encode(), 260, 261])
    assert [one["token"] for one in spelled] == ["<|begin|>", "�", "�", "<|end|>", "<|261|>"]
    assert [one["bytes"] for one in spelled[1:3]] == [[0xC3], [0xA9]]


def test_a_space_before_a_word_is_spelled(tmp_path):
    """SentencePiece's tokenizers drop it where a text begins; what was before decides."""
    tokenizer = json_tokenizer(tmp_path, words=None)
    chat = Chat(tokenizer)
    tokens = tokenizer.encode("x x x").tolist()
    spelled = spell_all(chat, [chat.begin, *tokens])
    assert "".join(one["token"] for one in spelled) == "<|begin|>x x x"


def test_where_a_plain_text_begins():
    tokenizer = tokenizer_named("byte")
    assert beginning(tokenizer, "hi") == [*b"hi"]
    assert beginning(tokenizer, "") == [*b"\n"]
    tokenizer = type("WithEnds", (), {"bos": None, "eot": 7, "encode": tokenizer.encode})()
    assert beginning(tokenizer, "") == [7]
    tokenizer.bos = 8
    assert beginning(tokenizer, "") == [8]
    assert beginning(tokenizer, "a") == [8, 97]
