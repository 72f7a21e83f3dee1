"""OpenAI's own client against our server."""

import pytest
from small_chats import turns
from small_service import serving, small_service

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client():
    with serving(small_service()) as server:
        direct = openai.DefaultHttpxClient(trust_env=False)  # whatever proxy the environment names
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, http_client=direct) as client:
            yield client


ASKED = {"model": "small", "messages": turns("hi"), "seed": 1, "max_tokens": 8}


def test_models(client):
    assert [model.id for model in client.models.list()] == ["small"]
    assert client.models.retrieve("small").owned_by == "tinygrad_lm"


def test_a_conversation_whole_and_as_a_stream(client):
    whole = client.chat.completions.create(**ASKED, n=2, logprobs=True, top_logprobs=2)
    texts = ["", ""]
    for chunk in client.chat.completions.create(**ASKED, n=2, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert chunk.usage == whole.usage
    assert whole.usage.completion_tokens == 16
    assert {choice.finish_reason for choice in whole.choices} == {"length"}
    for entry in whole.choices[0].logprobs.content:
        assert entry.logprob <= entry.top_logprobs[0].logprob <= 0


def test_a_completion_with_fields_that_are_not_openais(client):
    asked = {"model": "small", "prompt": "hi", "seed": 1, "max_tokens": 8, "logprobs": 1}
    whole = client.completions.create(**asked, extra_body={"top_k": 1})
    stream = client.completions.create(**asked, extra_body={"top_k": 1}, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    said = whole.choices[0].logprobs
    likeliest = zip(said.tokens, said.token_logprobs, strict=True)
    assert [{token: logprob} for token, logprob in likeliest] == said.top_logprobs


def test_errors_are_the_clients(client):
    with pytest.raises(openai.BadRequestError, match="tools is not supported other than as") as refused:
        client.chat.completions.create(**ASKED, tools=[{"type": "function", "function": {"name": "f"}}])
    assert refused.value.param == "tools"
    with pytest.raises(openai.NotFoundError, match="this server has 'small'"):
        client.chat.completions.create(**ASKED | {"model": "gpt-4"})


def test_a_stream_that_is_closed_early(client):
    for _ in range(5):
        with client.chat.completions.create(**ASKED, stream=True) as stream:
            next(iter(stream))
