"""OpenAI's interface over HTTP: what is answered is what the model draws, in the forms that clients know."""

import math

import pytest
from small_chats import turns
from small_service import ask, chat, events, post, serving, small_service

from tinygrad_lm.generation.generate import generate, generate_batch
from tinygrad_lm.serve.look import scores

CHAT, TEXT, LOOK, NEXT = "/v1/chat/completions", "/v1/completions", "/v1/inspect", "/v1/inspect/next"


@pytest.fixture(scope="module")
def service():
    return small_service()


@pytest.fixture(scope="module")
def server(service):
    with serving(service) as server:
        yield server


def drawn(service, prompt, n, **options):
    return list(generate(service.model, prompt, n, **options))


def test_models(server, service):
    status, listed, headers = ask(server, "GET", "/v1/models")
    assert (status, listed["object"], headers["Content-Type"]) == (200, "list", "application/json")
    (card,) = listed["data"]
    assert ask(server, "GET", "/v1/models/small")[1] == card
    assert {name: card[name] for name in ("id", "object", "max_model_len", "parameters", "chat")} == {
        "id": "small", "object": "model", "max_model_len": 64, "parameters": service.model.flat.data.size, "chat": True,
    }  # fmt: skip


def test_a_chat_completion(server, service):
    answer = chat(server, "hi", seed=5, max_tokens=6, return_token_ids=True)
    prompt = service.chat.prompt(turns("hi")).tolist()
    tokens = drawn(service, prompt, 6, seed=5, vocab_size=261)
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant", "content": "".join(service.chat.stream(tokens)), "refusal": None,
    }  # fmt: skip
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert choice["token_ids"] == tokens
    assert answer["usage"] == {"prompt_tokens": len(prompt), "completion_tokens": 6, "total_tokens": len(prompt) + 6}
    assert (answer["object"], answer["model"], answer["id"][:9]) == ("chat.completion", "small", "chatcmpl-")


SAMPLING = {"temperature": 0.3, "top_k": 5, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.3}


def test_a_completion_with_all_settings(server, service):
    answer = post(server, TEXT, prompt="hi", seed=2, max_tokens=7, return_token_ids=True, **SAMPLING)
    (choice,) = answer["choices"]
    assert choice["token_ids"] == drawn(service, [*b"hi"], 7, seed=2, vocab_size=256, **SAMPLING)
    assert choice["text"] == bytes(choice["token_ids"]).decode(errors="replace")
    assert answer["object"] == "text_completion"


@pytest.mark.parametrize("given", SAMPLING)
def test_each_setting_changes_the_text(given, server):
    """So that none of them is lost on its way."""
    plain = {"prompt": [*b"hi hi"], "seed": 2, "max_tokens": 20}
    assert post(server, TEXT, **plain)["choices"] != post(server, TEXT, **plain, **{given: SAMPLING[given]})["choices"]


def test_a_prompt_may_be_ids(server):
    texts = [post(server, TEXT, prompt=prompt, seed=1)["choices"] for prompt in ("hé", [*"hé".encode()])]
    assert texts[0] == texts[1]


def test_without_a_seed_each_answer_is_drawn_anew(server):
    assert len({chat(server, "hi", max_tokens=9)["choices"][0]["message"]["content"] for _ in range(3)}) == 3


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_stream_is_the_whole_in_pieces(path, n, server):
    asked = {"messages": turns("hi")} if path == CHAT else {"prompt": "hi"}
    asked |= {"seed": 4, "max_tokens": 12, "n": n, "return_token_ids": True}
    asked["logprobs"] = True if path == CHAT else 2
    whole = post(server, path, **asked)
    pieces = events(server, path, **asked, stream_options={"include_usage": True})
    assert pieces.pop()["usage"] == whole["usage"]
    for choice in whole["choices"]:
        own = [piece["choices"][0] for piece in pieces if piece["choices"][0]["index"] == choice["index"]]
        if path == CHAT:
            assert own[0]["delta"]["role"] == "assistant"
            assert "".join(one["delta"].get("content", "") for one in own) == choice["message"]["content"]
            assert [x for one in own for x in one["logprobs"]["content"]] == choice["logprobs"]["content"]
        else:
            assert "".join(one["text"] for one in own) == choice["text"]
            assert [x for one in own for x in one["logprobs"]["tokens"]] == choice["logprobs"]["tokens"]
        assert [x for one in own for x in one["token_ids"]] == choice["token_ids"]
        assert [one["finish_reason"] for one in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
    assert len({str(choice) for choice in whole["choices"]}) == n
    assert len({piece["id"] for piece in pieces}) == 1


def test_log_probabilities_are_the_models(server, service):
    (choice,) = chat(server, "hi", seed=5, max_tokens=6, temperature=0.5, logprobs=True, top_logprobs=3)["choices"]
    prompt = service.chat.prompt(turns("hi")).tolist()
    batch = generate_batch(service.model, [prompt], 6, 5, logprobs=True, top=3, vocab_size=261, temperature=0.5)
    for entry, one in zip(choice["logprobs"]["content"], batch, strict=True):
        assert entry["logprob"] == one.logprob
        assert entry["bytes"] == ([one.token] if one.token < 256 else [*entry["token"].encode()])
        assert [top["logprob"] for top in entry["top_logprobs"]] == [logprob for _, logprob in one.likeliest]
        assert one.likeliest == tuple(sorted(one.likeliest, key=lambda pair: -pair[1]))


def test_log_probabilities_of_a_completion(server, service):
    (choice,) = post(server, TEXT, prompt="hé", seed=1, max_tokens=9, logprobs=2, return_token_ids=True)["choices"]
    said, tokens = choice["logprobs"], choice["token_ids"]
    assert said["tokens"] == [bytes([i]).decode() if i < 128 else f"bytes:\\x{i:02x}" for i in tokens]
    found = scores(service.model, [*"hé".encode(), *tokens]).logprobs[2:]
    assert said["token_logprobs"] == pytest.approx(found.tolist(), abs=1e-4)
    assert all(len(top) == 2 for top in said["top_logprobs"])
    assert said["text_offset"] == list(range(9))


def test_a_stop_and_the_end(server, service):
    tokens = drawn(service, [*b"hi"], 16, seed=1, vocab_size=256)
    letter = next(chr(i) for i in tokens[2:] if i < 128)
    asked = {"prompt": "hi", "seed": 1, "max_tokens": 16}
    for stop in (letter, ["never", letter]):
        (choice,) = post(server, TEXT, **asked, stop=stop)["choices"]
        assert choice["text"] == bytes(tokens).decode(errors="replace").partition(letter)[0]
        assert choice["finish_reason"] == "stop"


def test_an_answer_that_comes_to_its_end(server, service, monkeypatch):
    monkeypatch.setattr(service.chat, "ends", frozenset(range(128)))
    answer = chat(server, "hi", seed=5, logprobs=True, return_token_ids=True)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["token_ids"][-1] < 128
    assert len(choice["logprobs"]["content"]) == len(choice["token_ids"]) - 1  # the end spells nothing
    assert answer["usage"]["completion_tokens"] == len(choice["token_ids"])


def test_an_answer_ends_where_the_context_does(server):
    answer = chat(server, "x" * 50, seed=0, max_tokens=500)
    assert answer["usage"]["total_tokens"] <= 64
    status, refused, _ = ask(server, "POST", CHAT, {"messages": turns("x" * 60)})
    assert (status, refused["error"]["code"]) == (400, "context_length_exceeded")
    assert "an answer needs one; the prompt has 64 tokens" in refused["error"]["message"]


def test_the_oldest_turns_are_left_out_if_that_is_asked_for(server):
    messages = turns("a" * 20, "b" * 20, "c" * 20)
    assert ask(server, "POST", CHAT, {"messages": messages})[0] == 400
    answer = post(server, CHAT, messages=messages, truncation="auto", max_tokens=2)
    assert answer["dropped_messages"] == 2
    assert answer["usage"]["prompt_tokens"] == 24
    assert "dropped_messages" not in chat(server, "c" * 20, max_tokens=2)


def test_forms_of_messages(server):
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    plain = post(server, CHAT, messages=turns("hi", system="s"), seed=0, max_tokens=5)["choices"]
    given = [{"role": "developer", "content": "s"}, {"role": "user", "content": parts, "name": None}]
    assert post(server, CHAT, messages=given, seed=0, max_tokens=5)["choices"] == plain


def test_fields_that_change_nothing_are_ignored(server):
    harmless = {"user": "me", "metadata": {"a": "b"}, "store": True, "unheard_of": None}
    neutral = {"presence_penalty": 0, "frequency_penalty": None, "logit_bias": {}, "tools": [], "stop": None}
    harmless |= neutral | {"response_format": {"type": "text"}}
    assert chat(server, "hi", seed=1, **harmless)["choices"] == chat(server, "hi", seed=1)["choices"]


WRONG = {
    "a type": (CHAT, {"temperature": "warm"}, "temperature", "temperature must be a number from 0 to 100"),
    "a range": (CHAT, {"top_p": 0}, "top_p", "top_p must be a number above 0, at most 1, found 0"),
    "true is no number": (CHAT, {"n": True}, "n", "n must be a whole number from 1 to 8, found true"),
    "too many": (CHAT, {"n": 9}, "n", "n must be a whole number from 1 to 8, found 9"),
    "an empty stop": (CHAT, {"stop": [""]}, "stop", "none of them empty"),
    "tools": (CHAT, {"tools": [{"type": "function"}]}, "tools", "tools is not supported other than as []"),
    "a penalty": (CHAT, {"presence_penalty": 1}, "presence_penalty", "not supported other than as 0, found 1"),
    "an unknown field": (CHAT, {"grammar": "x"}, "grammar", "'grammar' is not supported, and would change the text"),
    "several": (CHAT, {"n": 0, "seed": -1}, "n", "; seed must be a whole number from 0"),
    "no messages": (CHAT, {"messages": None}, "messages", "messages is missing"),
    "empty messages": (CHAT, {"messages": []}, "messages", "messages must be a list of 1 to 256 messages"),
    "text for a message": (CHAT, {"messages": ["hi"]}, "messages", "messages[0] must be an object"),
    "a role": (CHAT, {"messages": [{"role": "tool", "content": ""}]}, "role", "messages[0].role must be system"),
    "an image": (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "content",
        "list of parts",
    ),
    "no content": (CHAT, {"messages": [{"role": "user"}]}, "messages", "messages[0] needs role and content"),
    "the order": (CHAT, {"messages": turns("a", "b")}, None, "the last, must be the user's"),
    "half a character": (CHAT, {"messages": turns("\ud800")}, None, "surrogate"),
    "no logprobs": (CHAT, {"top_logprobs": 3}, "top_logprobs", "top_logprobs needs logprobs: true"),
    "no prompt": (TEXT, {"messages": turns("hi")}, "messages", "'messages' is not supported"),
    "an empty prompt": (TEXT, {"prompt": []}, "prompt", "prompt must be a text, or a list of token ids"),
    "a foreign id": (TEXT, {"prompt": [9, 261]}, "prompt", "token ids 0 to 260, found 261"),
    "a negative id": (TEXT, {"prompt": [-1]}, "prompt", "token ids 0 to 260, found -1"),
    "an echo": (TEXT, {"prompt": "a", "echo": True}, "echo", "echo is not supported other than as false"),
    "far too long": (TEXT, {"prompt": "a" * 9999}, None, "the prompt has 9,999 characters"),
    "too long to look at": (LOOK, {"prompt": "a" * 99}, None, "the prompt has 99 tokens"),
    "nothing to look at": (LOOK, {}, "messages", "messages is missing"),
    "nothing before": (NEXT, {"tokens": []}, "tokens", "tokens must be a list of token ids that is not empty"),
    "a foreign one came": (NEXT, {"tokens": [1], "came": 999}, "came", "found 999"),
    "far too much before": (NEXT, {"tokens": [1] * 65}, None, "the prompt has 65 tokens"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_refused_by_its_name(name, server):
    path, content, param, message = WRONG[name]
    if path == CHAT:
        content = {"messages": turns("hi")} | content
    status, answer, _ = ask(server, "POST", path, content)
    assert (status, list(answer)) == (400, ["error"])
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert message in answer["error"]["message"]
    assert answer["error"]["param"] == param


def test_another_model_is_not_here(server):
    status, answer, _ = ask(server, "POST", TEXT, {"prompt": "a", "model": "gpt-4"})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert answer["error"]["message"] == "the model 'gpt-4' is not here; this server has 'small'"
    assert post(server, TEXT, prompt="a", model="small")["model"] == "small"


# ---- looking into the model


def test_a_conversation_is_inspected(server, service):
    messages, answer = turns("hi", "ho", "he", system="sy"), [65, 0xC3, 260]
    rows = post(server, LOOK, messages=messages, answer=answer)["tokens"]
    tokens = [*service.chat.prompt(messages).tolist(), *answer]
    assert [row["id"] for row in rows] == tokens
    found = scores(service.model, tokens)
    assert [row["logprob"] for row in rows[1:]] == pytest.approx(found.logprobs.tolist())
    assert [row["rank"] for row in rows[1:]] == found.ranks.tolist()
    assert [row["entropy"] for row in rows[1:]] == pytest.approx(found.entropies.tolist())
    assert "logprob" not in rows[0]
    texts = {part: "".join(row["token"] for row in rows if row["part"] == part) for part in (0, 1, 2, 3, 4)}
    assert texts == {0: "sy", 1: "hi", 2: "ho", 3: "he", 4: "A�"}
    assert [row["token"] for row in rows if row["part"] is None][:3] == ["<|begin|>", "<|system|>", "<|end|>"]
    assert rows[-1]["part"] is None


def test_a_text_is_inspected(server):
    rows = post(server, LOOK, prompt="hi", answer=[*b"ho"])["tokens"]
    assert [(row["token"], row["part"]) for row in rows] == [("h", 0), ("i", 0), ("h", 1), ("o", 1)]


def test_what_comes_next(server, service):
    found = post(server, NEXT, tokens=[*b"hi"], top_k=2, came=3)
    rows = found["candidates"]
    assert [row["rank"] for row in rows[:20]] == list(range(1, 21))
    assert rows[-1]["id"] == 3
    assert [row["after"] > 0 for row in rows] == [True, True] + [False] * (len(rows) - 2)
    assert found["drawable"] == 2
    assert found["entropy"]["after"] < math.log(2) < found["entropy"]["before"]
    assert scores(service.model, [*b"hi", rows[4]["id"]]).logprobs[-1] == pytest.approx(math.log(rows[4]["before"]))


def test_the_same_place_is_computed_once(server, service, monkeypatch):
    calls = []
    features = type(service.model).features
    monkeypatch.setattr(type(service.model), "features", lambda *args: calls.append(1) or features(*args))
    for temperature in (0.5, 1, 2):
        post(server, NEXT, tokens=[1, 2, 3], temperature=temperature)
    assert len(calls) == 1
