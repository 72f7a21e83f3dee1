"""The fields of a request: their types, ranges and defaults, and which of OpenAI's are ignored or refused.

A field that would change the text, but means nothing here, is refused by its name: a client relies on what it asks for.
"""

import json
import math
from collections.abc import Callable
from typing import NamedTuple

from tinygrad_lm.serve.refusal import Refusal

CHOICES, TOP, STOPS, MESSAGES = 8, 20, 16, 256  # at most: answers, log-probabilities, stops, messages of one request


class Field(NamedTuple):
    """What a field must be, as words and as a function, and what it is if it is not given, or null."""

    rule: str
    ok: Callable
    default: object = None


def whole(low, high, default=None):
    ok = lambda x: isinstance(x, int) and not isinstance(x, bool) and low <= x <= high
    return Field(f"a whole number from {low} to {high}", ok, default)


def number(low, high, default):
    ok = lambda x: isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and low <= x <= high
    return Field(f"a number from {low:g} to {high:g}", ok, default)


def is_text(x):
    return isinstance(x, str)


def is_ids(x):
    return isinstance(x, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in x)


def is_stop(x):
    texts = [x] if is_text(x) else x
    return isinstance(texts, list) and len(texts) <= STOPS and all(is_text(text) and text for text in texts)


TEXT = Field("a text", is_text)
SWITCH = Field("true or false", lambda x: isinstance(x, bool), False)
IDS = Field("a list of token ids", is_ids)
SAMPLING = {  # the fields of generation/sampling.py's Sampler, which checks their ranges itself, too
    "temperature": number(0, 100, 1.0),
    "top_k": whole(0, 10**9, 0),
    "top_p": Field("a number above 0, at most 1", lambda x: x != 0 and number(0, 1, 1.0).ok(x), 1.0),
    "min_p": number(0, 1, 0.0),
    "repetition_penalty": Field("a number above 0, at most 100", lambda x: x != 0 and number(0, 100, 1.0).ok(x), 1.0),
}
WRITING = SAMPLING | {
    "model": TEXT,
    "n": whole(1, CHOICES, 1),
    "seed": whole(0, 2**64 - 1),
    "stop": Field(f"a text, or a list of at most {STOPS}, none of them empty", is_stop),
    "stream": SWITCH,
    "stream_options": Field("an object", lambda x: isinstance(x, dict)),
    "return_token_ids": SWITCH,
}
PROMPT = Field("a text, or a list of token ids that is not empty", lambda x: is_text(x) or (is_ids(x) and x))
MESSAGE_LIST = Field(f"a list of 1 to {MESSAGES} messages", lambda x: isinstance(x, list) and 0 < len(x) <= MESSAGES)
COMPLETION = WRITING | {
    "prompt": PROMPT,
    "max_tokens": whole(1, 10**9, 16),
    "logprobs": whole(0, TOP),
}
CHAT = WRITING | {
    "messages": MESSAGE_LIST,
    "max_tokens": whole(1, 10**9),
    "max_completion_tokens": whole(1, 10**9),
    "logprobs": SWITCH,
    "top_logprobs": whole(0, TOP, 0),
    "truncation": Field("auto or disabled", lambda x: x in ("auto", "disabled"), "disabled"),
}
INSPECT = {"model": TEXT, "messages": MESSAGE_LIST, "prompt": PROMPT, "answer": IDS}
NEXT = SAMPLING | {
    "model": TEXT,
    "tokens": Field("a list of token ids that is not empty", lambda x: is_ids(x) and x),
    "came": whole(0, 10**9),
}
MESSAGE = {
    "role": Field("system, developer, user or assistant", lambda x: x in ("system", "developer", "user", "assistant")),
    "content": Field("a text, or a list of parts of type text", lambda x: is_text(x) or is_parts(x)),
}
# Fields of OpenAI's that never change the text are ignored.
HARMLESS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
            "prompt_cache_retention"}  # fmt: skip
# Others are taken with the values that leave the text as it is: these, or null.
NEUTRAL = {"presence_penalty": [0], "frequency_penalty": [0], "logit_bias": [{}], "best_of": [1], "echo": [False],
           "suffix": [""], "tools": [[]], "tool_choice": ["none"], "functions": [[]], "modalities": [["text"]],
           "response_format": [{"type": "text"}], "name": [""]}  # fmt: skip


def is_parts(x):
    part = lambda y: isinstance(y, dict) and y.keys() == {"type", "text"} and y["type"] == "text" and is_text(y["text"])
    return isinstance(x, list) and all(map(part, x))


def parse(body):
    """The object of a JSON body, bytes. Refusal if it is not one."""
    try:
        content = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}", code="not_json") from None
    if not isinstance(content, dict):
        raise Refusal(400, f"the body must be a JSON object, found {type(content).__name__}", code="not_json")
    return content


def read(content, fields, where=""):
    """{name: value} of all fields. Refusal that names every problem of the object."""
    problems = {}
    for name, value in content.items():
        if name in fields:
            if value is not None and not fields[name].ok(value):
                problems[name] = f"{where}{name} must be {fields[name].rule}, found {brief(value)}"
        elif name in NEUTRAL and value is not None and value not in NEUTRAL[name]:
            allowed = " or ".join(map(json.dumps, NEUTRAL[name]))
            problems[name] = f"{where}{name} is not supported other than as {allowed}, found {brief(value)}"
        elif name not in NEUTRAL and name not in HARMLESS and value not in (None, [], {}):
            problems[name] = f"{where}{name[:100]!r} is not supported, and would change the text"
    if problems:
        raise Refusal(400, "; ".join(problems.values()), next(iter(problems))[:100], "wrong_field")
    given = {name: value for name, value in content.items() if name in fields and value is not None}
    return {name: field.default for name, field in fields.items()} | given


def brief(value):
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"


def read_messages(messages):
    """Messages in the form of posttrain/chat/chat.py, which checks their order."""
    found = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Refusal(400, f"messages[{i}] must be an object, found {brief(message)}", "messages", "wrong_field")
        role, content = read(message, MESSAGE, f"messages[{i}].").values()
        if role is None or content is None:
            raise Refusal(400, f"messages[{i}] needs role and content", "messages", "wrong_field")
        text = content if is_text(content) else "".join(part["text"] for part in content)
        found.append({"role": "system" if role == "developer" else role, "content": text})
    return found
