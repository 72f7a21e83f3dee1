"""The built-in chat template: special ids that no text can yield, what is learnt, and what an answer's ids spell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_chats import CONVERSATIONS, TOKENIZERS, conversations, tokenizer_named

from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.errors import DataError
from tinygrad_lm.posttrain.chat.chat import ROLES, SPECIAL, Chat

NAMES = [f"<|{name}|>" for name in SPECIAL]
SYSTEM, USER, ASSISTANT = CONVERSATIONS[-1][:3]
by_name = pytest.mark.parametrize("name", TOKENIZERS)


@by_name
@settings(max_examples=25)
@given(data=st.data())
def test_no_text_yields_a_special_id(name, data):
    """Whatever is written, special ids are where the template puts them, and only there."""
    tokenizer = tokenizer_named(name)
    chat, messages = Chat(tokenizer), data.draw(conversations([*NAMES, *special_texts(tokenizer)]))
    ids, _ = chat.render(messages)
    special = [SPECIAL[i - tokenizer.vocab_size] for i in ids.tolist() if i >= tokenizer.vocab_size]
    assert special == ["begin", *(name for message in messages for name in (message["role"], "end"))]
    texts = np.split(ids, np.flatnonzero(ids >= tokenizer.vocab_size))
    spelt = [tokenizer.decode(text[1:]) for text in texts]
    assert spelt == ["", "", *(text for message in messages for text in (message["content"], ""))]
    assert not {tokenizer.eot, tokenizer.bos} & set(ids.tolist())


def special_texts(tokenizer):
    """The texts of the special tokens that a tokenizer has itself."""
    return [tokenizer.decode([i]) for i in (tokenizer.eot, tokenizer.bos) if i is not None]


@by_name
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_learnt(name, data):
    chat, messages = Chat(tokenizer_named(name)), data.draw(conversations())
    ids, learn = chat.render(messages)
    assert (ids.dtype, learn.dtype, ids.shape) == (np.int32, bool, learn.shape)
    assert ids.tolist().count(chat.begin) == 1
    assert ids[0] == chat.begin
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    starts = np.flatnonzero(np.diff(learn.astype(int), prepend=0) == 1)
    stops = np.flatnonzero(np.diff(learn.astype(int), append=0) == -1)
    for i, start, stop in zip(answers, starts, stops, strict=True):
        prompt = chat.prompt(messages[:i])
        assert ids[:start].tolist() == prompt.tolist()  # so the last prompt token is where the first target is learnt
        assert ids[start : stop + 1].tolist() == chat.answer(messages[i]["content"]).tolist()
        assert ids[stop] == chat.end
        assert chat.ends == {chat.end}
        assert chat.parse(ids[start : stop + 1]) == (messages[i]["content"], True)


def test_the_ids_of_a_conversation():
    chat = Chat(ByteTokenizer())
    assert (chat.vocab_size, chat.document_token) == (261, 256)
    ids, learn = chat.render([SYSTEM | {"content": "s"}, USER | {"content": "u"}, ASSISTANT | {"content": "é"}])
    assert ids.tolist() == [256, 257, 115, 260, 258, 117, 260, 259, *"é".encode(), 260]
    assert learn.tolist() == [False] * 8 + [True] * 3


def test_ids_that_were_drawn_are_never_made_from_text():
    """Ids whose text is encoded differently keep their own: parse is not the inverse of answer, and need not be."""
    tokenizer = tokenizer_named("bpe")
    chat, drawn = Chat(tokenizer), [*b"the", 260]
    drawn = [tokenizer.vocabulary.index(bytes([byte])) for byte in b"the"] + [chat.end]
    assert chat.parse(drawn) == ("the", True)
    assert chat.answer("the").tolist() != drawn


def test_what_stands_in_an_answer_is_shown():
    """A special id in the middle of an answer appears by its name, so no check takes the answer for a clean one."""
    chat = Chat(ByteTokenizer())
    ids = [*b"4", chat.special["user"], *b"5", chat.end, *b"6"]
    assert chat.parse(ids) == ("4<|user|>5", True)
    assert chat.parse(np.array(ids[:3])) == ("4<|user|>5", False)


def test_a_stream_comes_as_its_ids_do():
    chat, taken = Chat(ByteTokenizer()), []

    def ids():
        for i in [*"aé".encode(), chat.begin, *b"b", chat.end, *b"never"]:
            taken.append(i)
            yield i

    seen = [(text, len(taken)) for text in chat.stream(ids())]
    assert seen == [("a", 1), ("é", 3), ("<|begin|>", 4), ("b", 5)]
    assert len(taken) == 6


WRONG = [
    ([], r"expected a list of messages, found \[\]"),
    ("hello", "expected a list of messages, found 'hello'"),
    ([USER, "hello"], "message 2: expected .* a text}, found 'hello'"),
    ([{"role": "user"}], "message 1: expected .* a text}, found {'role': 'user'}"),
    ([USER, ASSISTANT | {"content": None}], "message 2: expected .* a text}"),
    ([{"role": "tool", "content": ""}], "message 1: role must be one of system, user, assistant, found 'tool'"),
    ([ASSISTANT], "message 1: expected the system or the user at the beginning, found the assistant"),
    ([SYSTEM, ASSISTANT], "message 2: expected the user after the system's, found the assistant"),
    ([USER, SYSTEM, ASSISTANT], "message 2: expected the assistant after the user's, found the system"),
    ([USER, ASSISTANT, ASSISTANT], "message 3: expected the user after the assistant's, found the assistant"),
    ([USER, USER, ASSISTANT], "message 2: expected the assistant after the user's, found the user"),
    ([USER, ASSISTANT, USER], "message 3, the last, must be the assistant's, an answer to learn; found the user's"),
]


@pytest.mark.parametrize(("messages", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_not_a_conversation(messages, message):
    with pytest.raises(DataError, match=f"^{message}"):
        Chat(ByteTokenizer()).render(messages)


def test_a_prompt_ends_with_a_question():
    with pytest.raises(DataError, match="message 2, the last, must be the user's, a question to answer; found the"):
        Chat(ByteTokenizer()).prompt([USER, ASSISTANT])


def test_special_ids_have_an_order():
    """It is written into checkpoints: another order would be another model."""
    assert SPECIAL == ("begin", "system", "user", "assistant", "end")
    assert ROLES == ("system", "user", "assistant")
