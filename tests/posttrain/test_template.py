"""Published chat templates: the ids of transformers, none of them made by what a user wrote, and what is learnt."""

import json
from datetime import datetime
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from chat_templates import TEMPLATES
from hypothesis import given, settings
from hypothesis import strategies as st
from small_chats import CONVERSATIONS, conversations, json_tokenizer, turns

from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer, read_files
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.posttrain.chat import template
from tinygrad_lm.posttrain.chat.hiding import HidingTokenizer
from tinygrad_lm.posttrain.chat.template import TemplateChat

pytest.importorskip("jinja2")
pytest.importorskip("tokenizers")

HEADER = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SPECIAL = ("<|endoftext|>", "<|begin_of_text|>", "<|im_start|>", "<|im_end|>", *HEADER)
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
THINK = ("<think>", "</think>")
by_name = pytest.mark.parametrize("name", TEMPLATES)
NAMED = {"bos_token": "<|begin_of_text|>", "eos_token": "<|endoftext|>"}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """folder_of(name): a folder with a tokenizer and that chat template."""

    @cache
    def folder_of(name):
        folder = tmp_path_factory.mktemp(name)
        words = {"words": None} if name == "mistral" else {}
        json_tokenizer(folder, SPECIAL, THINK, settings=NAMED | {"chat_template": TEMPLATES[name]}, **words)
        return folder

    return folder_of


@pytest.fixture(scope="module")
def chat_of(folder_of):
    return cache(lambda name: TemplateChat(JsonTokenizer(folder_of(name))))


@pytest.fixture(scope="module")
def theirs_of(folder_of):
    """theirs_of(name): transformers' tokenizer of the same folder."""
    transformers = pytest.importorskip("transformers")
    return cache(lambda name: transformers.AutoTokenizer.from_pretrained(folder_of(name)))


def allowed(name, messages):
    """The messages that a template takes."""
    return messages[1:] if name == "mistral" and messages[0]["role"] == "system" else messages


# ---- the ids


@by_name
@settings(max_examples=10)
@given(data=st.data())
def test_the_ids_are_those_of_transformers(name, chat_of, theirs_of, data):
    chat, theirs = chat_of(name), theirs_of(name)
    messages = allowed(name, data.draw(st.sampled_from(CONVERSATIONS) | conversations(["\n", " ", "\t", "é"])))

    def prompt_of_theirs(i):
        return theirs.apply_chat_template(messages[:i], add_generation_prompt=True, return_dict=False)

    (ids, _), expected = chat.render(messages), theirs.apply_chat_template(messages, return_dict=False)
    prompt = chat.prompt(messages[:-1])
    assert ids[: len(prompt)].tolist() == prompt.tolist()
    assert chat.tokenizer.decode(ids) == theirs.decode(expected)
    answers = (prompt_of_theirs(i) for i, message in enumerate(messages) if message["role"] == "assistant")
    if all(expected[: len(before)] == before for before in answers):  # no token reaches over an answer's beginning
        assert prompt.tolist() == prompt_of_theirs(-1)
        assert ids.tolist() == expected


@by_name
@settings(max_examples=10)
@given(data=st.data())
def test_no_message_yields_a_special_id(name, chat_of, data):
    """Special ids are those of the same conversation without the words that spell them, or parts of them."""
    chat, words = chat_of(name), [*SPECIAL, *(THINK if name == "qwen3" else ())]
    parts = [*words, *(part for word in words for part in (word[:-1], word[1:], word[:2]))]
    messages = allowed(name, data.draw(conversations(parts)))
    plain = [message | {"content": "x"} for message in messages]
    thoughts = any("think" in message["content"] for message in messages if message["role"] == "assistant")
    special = {chat.texts.ids[text] for text in (SPECIAL if thoughts else words)}
    found, expected = ([i for i in chat.render(written)[0].tolist() if i in special] for written in (messages, plain))
    assert found == expected


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("content", ["<|im_end|", "<|im_end| \n", "<|im_", "<", "a<|im_end|><|im_end|"])
def test_what_a_template_writes_completes_no_special_token(content, role, tmp_path):
    tokenizer = json_tokenizer(tmp_path, SPECIAL)
    texts = HidingTokenizer(read_files(tmp_path), "")
    hidden = texts.hide({"role": role, "content": content})["content"].strip()
    for end in (">", "end|>", "|im_end|>"):
        ids = texts.encode(hidden + end)
        assert tokenizer.decode(ids) == content.strip() + end
        assert (ids >= len(SPECIAL)).all()


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3", "blocks", "plain"])
@settings(max_examples=10)
@given(data=st.data())
def test_hidden_tokens_are_encoded_as_transformers_does(name, chat_of, theirs_of, data):
    """Newer ones have an option for it; tokens with spaces around them are ambiguous there."""
    chat, theirs = chat_of(name), theirs_of(name)
    if not hasattr(theirs, "_mark_chat_inputs"):
        pytest.skip("this version of transformers has no sanitize_control_tokens")
    messages = data.draw(conversations([f"a{word}b" for word in SPECIAL]))
    expected = theirs.apply_chat_template(messages, return_dict=False, sanitize_control_tokens=True)
    assert chat.tokenizer.decode(chat.render(messages)[0]) == theirs.decode(expected)


# ---- what is learnt


@by_name
@settings(max_examples=10)
@given(data=st.data())
def test_what_is_learnt(name, chat_of, data):
    chat, messages = chat_of(name), allowed(name, data.draw(st.sampled_from(CONVERSATIONS) | conversations()))
    ids, learn = chat.render(messages)
    assert (ids.dtype, learn.dtype, ids.shape) == (np.int32, bool, learn.shape)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    starts = np.flatnonzero(np.diff(learn.astype(int), prepend=0) == 1)
    stops = np.flatnonzero(np.diff(learn.astype(int), append=0) == -1)
    for i, start, stop in zip(answers, starts, stops, strict=True):
        assert ids[:start].tolist() == chat.prompt(messages[:i])[:start].tolist()
        assert ids[stop] == chat.end
        text, ended = chat.parse(ids[start : stop + 1])
        assert ended
        assert messages[i]["content"].strip() in text


EXPECTED = {
    "chatml": ["<|im_start|>", "<|im_end|>", {"<|im_end|>", "<|endoftext|>"}, None],
    "qwen3": ["<|im_start|>", "<|im_end|>", {"<|im_end|>", "<|endoftext|>"}, None],
    "llama3": ["<|begin_of_text|>", "<|eot_id|>", {"<|eot_id|>", "<|endoftext|>"}, "<|begin_of_text|>"],
    "mistral": ["<|begin_of_text|>", "<|endoftext|>", {"<|endoftext|>"}, "<|begin_of_text|>"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_ends_and_beginnings(name, chat_of):
    chat = chat_of(name)
    ids, (begin, end, ends, document) = chat.texts.ids, EXPECTED[name]
    assert (chat.begin, chat.end, chat.ends) == (ids[begin], ids[end], {ids[text] for text in ends})
    assert chat.document_token == (document and ids[document])
    assert chat.vocab_size == chat.tokenizer.vocab_size


def test_the_last_thoughts_are_learnt_and_earlier_ones_left_out(chat_of):
    """As Qwen3's template has it."""
    chat = chat_of("qwen3")
    ids, learn = chat.render(turns("a", "<think>\nhm\n</think>\n\nb", "c", "<think>\nso\n</think>\n\nd"))
    assert chat.tokenizer.decode(ids[learn]) == "b<|im_end|><think>\nso\n</think>\n\nd<|im_end|>"
    assert chat.parse(chat.answer("d")) == ("<think>\n\n</think>\n\nd", True)


def test_all_ids_that_end_a_text(folder_of, tmp_path):
    """Those of the settings, of both configurations, one or several, and the template's own."""
    ids = TemplateChat(JsonTokenizer(folder_of("chatml"))).texts.ids
    for name, ends in (("generation_config.json", [5, 6]), ("config.json", 4)):
        (tmp_path / name).write_text(json.dumps({"eos_token_id": ends}))
    settings = {"chat_template": TEMPLATES["chatml"], "eos_token": {"content": "<|endoftext|>"}}
    chat = TemplateChat(json_tokenizer(tmp_path, SPECIAL, settings=settings))
    assert chat.ends == {ids["<|im_end|>"], ids["<|endoftext|>"], 4, 5, 6}


def test_no_token_reaches_over_the_beginning_of_an_answer(tmp_path):
    """GPT-2's words end with the last but one of several line ends, so the template's last would join the answer."""
    settings = NAMED | {"chat_template": TEMPLATES["llama3"]}
    chat = TemplateChat(json_tokenizer(tmp_path, SPECIAL, words=GPT2_WORDS, settings=settings))
    messages = turns("Hi", "Ho", "a", "b")
    ids, learn = chat.render(messages)
    for i in (1, 3):
        prompt = chat.prompt(messages[:i])
        assert ids[: len(prompt)].tolist() == prompt.tolist()
    assert chat.parse(ids[learn])[0] == "Ho"
    assert chat.texts.encode(chat.text(messages)).tolist() != ids.tolist()  # or nothing was cut


# ---- where it is found, and what it may do


def test_it_may_be_a_file_or_one_of_several(folder_of, tmp_path):
    named = [{"name": "default", "template": TEMPLATES["plain"]}, {"name": "tool_use", "template": "x"}]
    tokenizer = json_tokenizer(tmp_path, SPECIAL, settings=NAMED | {"chat_template": named})
    question = turns("Hi")
    assert tokenizer.decode(TemplateChat(tokenizer).prompt(question)) == "Hi<|endoftext|>"
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}" + TEMPLATES["plain"])
    chat = TemplateChat(JsonTokenizer(tmp_path))
    assert tokenizer.decode(chat.prompt(question)) == "<|begin_of_text|>Hi<|endoftext|>"


def test_the_date_is_kept(chat_of, monkeypatch):
    """A run that is resumed tomorrow sees the same ids."""
    today = datetime(2024, 3, 1)
    monkeypatch.setattr(template, "datetime", SimpleNamespace(now=lambda: today, fromisoformat=datetime.fromisoformat))
    tokenizer = chat_of("llama3").tokenizer
    chat, then = TemplateChat(tokenizer), TemplateChat(tokenizer, "2024-02-29T12:00:00")
    assert "Today Date: 29 Feb 2024" in chat.tokenizer.decode(then.prompt(turns("Hi")))
    assert then.to_dict() == {"name": "template", "date": "2024-02-29T12:00:00"}
    assert "Today Date: 01 Mar 2024" in chat.tokenizer.decode(chat.prompt(turns("Hi")))


@pytest.mark.parametrize(
    "source",
    ["{{ ''.__class__.__mro__ }}", "{% set x = messages.append(1) %}", "{{ messages[0].__init__.__globals__ }}"],
)
def test_a_template_is_in_a_sandbox(source, tmp_path):
    tokenizer = json_tokenizer(tmp_path, SPECIAL, settings=NAMED | {"chat_template": source})
    with pytest.raises(ConfigError, match=r"the template refuses this conversation: .*(unsafe|is not safely callable)"):
        TemplateChat(tokenizer)


WRONG = {
    "{% for": "line 1 of the chat template: ",
    "{{ raise_exception('no') }}": "the template refuses this conversation: no$",
    "{{ messages[0].content + 1 }}": "the template refuses this conversation: ",
    "{% for m in messages %}{{ m.content }}{% endfor %}": "no token ends the answers of its template",
    "{{ messages | length }}{{ eos_token }}": "message 2: what the template writes before this answer changes",
}


@pytest.mark.parametrize("source", WRONG)
def test_templates_that_cannot_be_used(source, tmp_path):
    settings = {"chat_template": source} | (NAMED if "eos" in source else {})
    with pytest.raises(ConfigError, match=f"^chat: .*{WRONG[source]}"):
        TemplateChat(json_tokenizer(tmp_path, SPECIAL, settings=settings))


def test_an_answer_without_an_end(tmp_path):
    """It would never learn to end."""
    source = "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'user' }}{% endfor %}"
    chat = TemplateChat(json_tokenizer(tmp_path, SPECIAL, settings=NAMED | {"chat_template": source}))
    with pytest.raises(DataError, match="the template writes no end after answer 1"):
        chat.render(turns("a", "b"))


def test_without_a_template(tmp_path):
    with pytest.raises(ConfigError, match=r"has no chat template, in tokenizer_config.json or a file"):
        TemplateChat(json_tokenizer(tmp_path, SPECIAL))


@pytest.mark.parametrize("template", [[{"name": "rag", "template": ""}], [1]])
def test_a_damaged_description(template, tmp_path):
    tokenizer = json_tokenizer(tmp_path, SPECIAL, settings={"chat_template": template})
    with pytest.raises(DataError, match=r"its chat template cannot be read: (KeyError|TypeError)"):
        TemplateChat(tokenizer)
