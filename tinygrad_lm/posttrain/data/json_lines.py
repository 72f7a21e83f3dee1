"""Conversations, preference pairs and prompts from files of JSON lines, in the forms that the field uses.

conversations  {"messages": [{"role": …, "content": …}, …]}
               {"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}     ShareGPT
               {"prompt": …, "completion": …}                                    texts, or lists of messages
               {"instruction": …, "input": …, "output": …}                       Alpaca; input may be empty or absent
pairs          {"prompt": …, "chosen": …, "rejected": …}                         texts, or lists of messages
               {"chosen": [messages], "rejected": [messages]}                    whole, equal but for the last answer
prompts        {"prompt": …} or {"messages": […]}, with "answer" and "verifier" where they can be verified
"""

import json
from pathlib import Path

from tinygrad_lm.data.synthetic.instructions import Conversation, message
from tinygrad_lm.data.synthetic.speeches import Pair
from tinygrad_lm.errors import DataError, TokenError
from tinygrad_lm.posttrain.chat.chat import check_messages
from tinygrad_lm.posttrain.verifiers.verifiers import VERIFIERS

SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
SHOWN = 10  # problems of a file


def read_conversations(path, chat):
    """[Conversation, …] of a file. Raises one DataError with all lines that are wrong or cannot be rendered."""

    def conversation(record):
        messages = messages_of(record)
        chat.render(messages)
        return Conversation(record.get("task", "conversations"), messages, messages[-1]["content"], "equal")

    return read_lines(path, conversation)


def read_pairs(path, chat):
    """[Pair, …] of a file; DataError as read_conversations."""

    def pair(record):
        found = pair_of(record)
        for text in (found.chosen, found.rejected):
            chat.render([*found.prompt, message("assistant", text)])
        if found.chosen == found.rejected:
            raise DataError("chosen and rejected are equal, so there is nothing to prefer")
        return found

    return read_lines(path, pair)


def read_prompts(path):
    """[Conversation, …] of a file, each without its answer; DataError as read_conversations."""

    def prompt(record):
        messages = as_messages(record, "prompt" if "prompt" in record else "messages", "user")
        check_messages(messages, last="user")
        answer, verifier = str(record.get("answer", "")), record.get("verifier", "equal")
        if verifier not in VERIFIERS:
            raise DataError(f"verifier must be one of {', '.join(VERIFIERS)}, found {verifier!r:.100}")
        if "answer" in record:
            VERIFIERS[verifier]("", answer)
        return Conversation(record.get("task", "prompts"), messages, answer, verifier)

    return read_lines(path, prompt)


def read_lines(path, function):
    """[function(object), …] of a file with a JSON object a line. Raises one DataError with all that is wrong in it."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    found, problems = [], []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                found.append(function(json_object(line)))
        except (DataError, TokenError) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = [f"and {len(problems) - SHOWN:,} more"] * (len(problems) > SHOWN)
        raise DataError("\n  ".join([f"{path}: {len(problems):,} wrong lines", *problems[:SHOWN], *more]))
    if not found:
        raise DataError(f"{path} is empty; expected a JSON object a line")
    return found


def json_object(line):
    try:
        record = json.loads(line)
    except ValueError as error:  # UnicodeDecodeError, too
        raise DataError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f"expected a JSON object, found {record!r:.100}")
    return record


def messages_of(record):
    """The messages of a record in any of the forms of conversations."""
    if "messages" in record:
        return as_messages(record, "messages", None)
    if "conversations" in record:
        return [turn(said) for said in as_list(record, "conversations")]
    if {"prompt", "completion"} <= record.keys():
        return as_messages(record, "prompt", "user") + as_messages(record, "completion", "assistant")
    if {"instruction", "output"} <= record.keys():
        asked = [text for name in ("instruction", "input") if (text := as_text(record, name))]
        return [message("user", "\n\n".join(asked)), message("assistant", as_text(record, "output"))]
    raise DataError(unknown(record, "messages, or conversations, or prompt and completion, or instruction and output"))


def pair_of(record):
    """The Pair of a record in any of the forms of pairs."""
    if not {"chosen", "rejected"} <= record.keys():
        raise DataError(unknown(record, "chosen and rejected, and prompt where these are answers alone"))
    chosen, rejected = (as_messages(record, name, "assistant") for name in ("chosen", "rejected"))
    if len(chosen) == len(rejected) == 1:
        prompt = as_messages(record, "prompt", "user")
    elif (prompt := chosen[:-1]) != rejected[:-1]:
        raise DataError("chosen and rejected must be equal but for their last messages")
    return Pair(prompt, *(messages[-1]["content"] for messages in (checked(prompt, chosen), checked(prompt, rejected))))


def checked(prompt, messages):
    """The messages, if they end with an answer to a prompt."""
    check_messages([*prompt, messages[-1]], last="assistant")
    return messages


def turn(said):
    """A message of ShareGPT's form as one of ours."""
    if not isinstance(said, dict) or said.get("from") not in SPEAKERS:
        raise DataError(f'expected {{"from": {" or ".join(SPEAKERS)}, "value": a text}}, found {said!r:.100}')
    return {"role": SPEAKERS[said["from"]], "content": said.get("value")}


def as_messages(record, name, role):
    """A field as messages: it is a list of them, or the text of one by `role`."""
    value = record.get(name)
    return [message(role, value)] if role and isinstance(value, str) else as_list(record, name)


def as_list(record, name):
    value = record.get(name)
    if not isinstance(value, list) or not value:
        raise DataError(f"{name} must be a list of messages, found {value!r:.100}")
    return value


def as_text(record, name):
    value = record.get(name) or ""
    if not isinstance(value, str):
        raise DataError(f"{name} must be a text, found {value!r:.100}")
    return value


def unknown(record, expected):
    """What is wrong with a record of no known form."""
    hint = "; a text alone does not say what is an answer: pretrain on it" if "text" in record else ""
    return f"expected {expected}; found {', '.join(record) or 'nothing'}{hint}"
