"""Conversations, pairs and prompts from JSON lines: all forms of the field, and all problems of a file at once."""

import json

import pytest
from small_chats import turns

from tinygrad_lm.data.synthetic.instructions import Conversation
from tinygrad_lm.data.synthetic.speeches import Pair
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer, CharTokenizer
from tinygrad_lm.errors import DataError
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data.json_lines import read_conversations, read_pairs, read_prompts

CHAT = Chat(ByteTokenizer())
HI, HO = turns("Hi", "Ho")
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture
def file(tmp_path):
    """file(records): a file with a line for each; texts are lines as they are."""

    def file(*records):
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), encoding="utf-8")
        return path

    return file


def sharegpt(*said):
    return {"conversations": [{"from": who, "value": text} for who, text in said]}


CONVERSATIONS = [
    ({"messages": [HI, HO], "id": 7}, [HI, HO]),
    ({"messages": [SYSTEM, HI, HO]}, [SYSTEM, HI, HO]),
    ({"prompt": "Hi", "completion": "Ho"}, [HI, HO]),
    ({"prompt": [SYSTEM, HI], "completion": [HO]}, [SYSTEM, HI, HO]),
    (sharegpt(("system", "Be brief."), ("human", "Hi"), ("gpt", "Ho")), [SYSTEM, HI, HO]),
    (sharegpt(("user", "Hi"), ("assistant", "Ho"), ("human", "Hi"), ("gpt", "Ho")), [HI, HO, HI, HO]),
    ({"instruction": "Hi", "output": "Ho"}, [HI, HO]),
    ({"instruction": "Hi", "input": "", "output": "Ho"}, [HI, HO]),
    ({"instruction": "Add.", "input": "1 2", "output": "3"}, turns("Add.\n\n1 2", "3")),
]
PAIRS = [
    ({"prompt": "Hi", "chosen": "Ho", "rejected": "No"}, [HI]),
    ({"prompt": [SYSTEM, HI], "chosen": [HO], "rejected": turns("Hi", "No")[1:]}, [SYSTEM, HI]),
    ({"chosen": [HI, HO, HI, HO], "rejected": [HI, HO, *turns("Hi", "No")]}, [HI, HO, HI]),
    ({"prompt": "Hi", "chosen": [HI, HO], "rejected": turns("Hi", "No")}, [HI]),
]
PROMPTS = [
    ({"prompt": "Hi", "answer": "Ho"}, ([HI], "Ho", "equal")),
    ({"messages": [SYSTEM, HI], "answer": 42, "verifier": "number"}, ([SYSTEM, HI], "42", "number")),
    ({"prompt": [HI], "task": "greeting"}, ([HI], "", "equal")),
]


@pytest.mark.parametrize(("record", "messages"), CONVERSATIONS)
def test_forms_of_conversations(record, messages, file):
    assert read_conversations(file(record), CHAT) == [
        Conversation("conversations", messages, messages[-1]["content"], "equal")
    ]


@pytest.mark.parametrize(("record", "prompt"), PAIRS)
def test_forms_of_pairs(record, prompt, file):
    assert read_pairs(file(record), CHAT) == [Pair(prompt, "Ho", "No")]


@pytest.mark.parametrize(("record", "expected"), PROMPTS)
def test_forms_of_prompts(record, expected, file):
    found = read_prompts(file(record))
    assert [(prompt.messages, prompt.answer, prompt.verifier) for prompt in found] == [expected]
    assert found[0].task == record.get("task", "prompts")


def test_lines(file):
    """Empty ones do not count as conversations but as lines; a line end of Unicode's within a text ends no line."""
    record = json.dumps({"prompt": "a\u2028b", "completion": "c\u0085"}, ensure_ascii=False)
    found = read_conversations(file("", record, "  ", record, ""), CHAT)
    assert [conversation.messages for conversation in found] == [turns("a\u2028b", "c\u0085")] * 2


WRONG = [
    (read_conversations, "{", "not JSON: Expecting property name"),
    (read_conversations, "[1]", r"expected a JSON object, found \[1\]"),
    (read_conversations, {}, "expected messages, or conversations, .*; found nothing"),
    (read_conversations, {"text": "once"}, "found text; a text alone does not say what is an answer: pretrain on it"),
    (read_conversations, {"prompt": "a", "output": "b"}, "expected messages, or .*; found prompt, output"),
    (read_conversations, {"messages": "Hi"}, "messages must be a list of messages, found 'Hi'"),
    (read_conversations, {"messages": []}, r"messages must be a list of messages, found \[\]"),
    (read_conversations, {"messages": [HI]}, "message 1, the last, must be the assistant's"),
    (read_conversations, {"messages": [HO]}, "message 1: expected the system or the user at the beginning"),
    (read_conversations, {"prompt": 1, "completion": "b"}, "prompt must be a list of messages, found 1"),
    (read_conversations, sharegpt(("robot", "Hi")), "expected .*human or .*, found {'from': 'robot'"),
    (read_conversations, sharegpt(("human", None), ("gpt", "Ho")), "message 1: expected .*'content': None"),
    (read_conversations, {"instruction": "a", "input": 3, "output": "b"}, "input must be a text, found 3"),
    (read_pairs, {"prompt": "Hi", "chosen": "Ho"}, "expected chosen and rejected, .*; found prompt, chosen"),
    (read_pairs, {"chosen": "Ho", "rejected": "No"}, "prompt must be a list of messages, found None"),
    (read_pairs, {"prompt": "Hi", "chosen": "Ho", "rejected": "Ho"}, "chosen and rejected are equal"),
    (read_pairs, {"chosen": [HI, HO], "rejected": turns("Hey", "No")}, "must be equal but for their last messages"),
    (read_pairs, {"chosen": [HI, HO], "rejected": [HI]}, "must be equal but for their last messages"),
    (read_prompts, {"answer": "Ho"}, "messages must be a list of messages, found None"),
    (read_prompts, {"prompt": [HI, HO]}, "message 2, the last, must be the user's"),
    (read_prompts, {"prompt": "Hi", "verifier": "magic"}, "verifier must be one of .*, found 'magic'"),
    (read_prompts, {"prompt": "Hi", "answer": "x", "verifier": "number"}, "verifier number: expected a number"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "record", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_what_is_wrong_in_a_line(read, record, message, file):
    arguments = () if read is read_prompts else (CHAT,)
    with pytest.raises(DataError, match=rf"data.jsonl: 1 wrong lines\n  line 2: .*{message}"):
        read(file("", record), *arguments)


def test_all_problems_at_once_but_not_ten_thousand_lines(file):
    """What the tokenizer cannot express is one of them."""
    records = [{"prompt": "Hi", "completion": "Ho"}] + 12 * [{"prompt": "Hi", "completion": "é"}] + 13 * ["{"]
    with pytest.raises(DataError) as caught:
        read_conversations(file(*records), Chat(CharTokenizer("Hio")))
    first, *lines = str(caught.value).split("\n  line ")
    assert first.endswith("data.jsonl: 25 wrong lines")
    assert [line.split(":")[0] for line in lines] == [str(n) for n in range(2, 12)]
    assert lines[0].startswith("2: char tokenizer: the vocabulary lacks 1 character: 'é'")
    assert lines[-1].endswith("\n  and 15 more")


def test_files_that_are_missing_or_empty(tmp_path, file):
    with pytest.raises(DataError, match=r"missing: cannot be read: No such file or directory; check the path"):
        read_prompts(tmp_path / "missing")
    with pytest.raises(DataError, match=r"data.jsonl is empty; expected a JSON object a line"):
        read_prompts(file("\n\n"))
