"""OpenAI's interface to a model: its list of models, and answers to prompts and to conversations.

An endpoint is a function of (request, gone): a JSON object, and gone(), which says whether the client has hung up. It
returns an answer that JSON can hold, or, for "stream": true, an iterator of them.
"""

import secrets
import time
from itertools import takewhile

from tinygrad_lm.serve import fields
from tinygrad_lm.serve.answers import write_answers
from tinygrad_lm.serve.fields import read, read_messages
from tinygrad_lm.serve.forms import ChatForm, CompletionForm
from tinygrad_lm.serve.history import fit
from tinygrad_lm.serve.line import Line
from tinygrad_lm.serve.refusal import Refusal
from tinygrad_lm.serve.spelling import beginning

LETTERS = 32  # of a text for each position of the context: more cannot fit, and would only take time to encode


class Service:
    """A model and its chat format (posttrain/chat/chat.py), one request at a time.

    name: of the model, for clients; trained: whether it has learnt to chat; tokens: the longest answer
    """

    def __init__(self, model, chat, name, trained=True, tokens=2048, line=None):
        self.model, self.chat, self.name, self.trained, self.tokens = model, chat, name, trained, tokens
        self.size, self.line, self.created = model.config.block_size, line or Line(), int(time.time())

    def card(self):
        """What is said of the model: OpenAI's fields, and three more."""
        card = {"id": self.name, "object": "model", "created": self.created, "owned_by": "tinygrad_lm"}
        return card | {"max_model_len": self.size, "parameters": int(self.model.flat.data.size), "chat": self.trained}

    def models(self):
        return {"object": "list", "data": [self.card()]}

    def chat_completions(self, request, gone):
        given = self.read(request, fields.CHAT, "messages")
        messages = read_messages(given["messages"])
        if given["top_logprobs"] and not given["logprobs"]:
            raise Refusal(400, "top_logprobs needs logprobs: true", "top_logprobs", "wrong_field")
        limit = min(given["max_completion_tokens"] or given["max_tokens"] or self.tokens, self.tokens)
        room = min(limit, self.size // 2)
        self.check_length([message["content"] for message in messages])

        def prompt():
            automatic = given["truncation"] == "auto"
            return fit(self.chat, messages, self.size, room) if automatic else (self.chat.prompt(messages), 0)

        form = ChatForm(self.chat, self.name, given["n"], given["logprobs"], given["return_token_ids"])
        way = {"spell": self.chat.stream, "ends": self.chat.ends, "vocab_size": self.chat.vocab_size}
        return self.respond(given, form, prompt, limit, gone, way | {"top": given["top_logprobs"]})

    def completions(self, request, gone):
        given = self.read(request, fields.COMPLETION, "prompt")
        tokenizer, top = self.chat.tokenizer, given["logprobs"]
        ends = self.chat.ends | tokenizer.ends
        spelled = lambda ids: tokenizer.stream(takewhile(lambda i: i not in ends, ids))
        form = CompletionForm(self.chat, self.name, given["n"], top is not None, given["return_token_ids"])
        way = {"spell": spelled, "ends": ends, "vocab_size": tokenizer.vocab_size, "top": top or 0}
        limit = min(given["max_tokens"], self.tokens)
        self.check_length([given["prompt"]])
        return self.respond(given, form, lambda: (self.ids(given["prompt"]), 0), limit, gone, way)

    def read(self, request, table, needed):
        """The fields of a request, if it is for this model and has the one that is needed."""
        given = read(request, table)
        if given["model"] not in (None, self.name):
            message = f"the model {given['model'][:200]!r} is not here; this server has {self.name!r}"
            raise Refusal(404, message, "model", "model_not_found")
        if given[needed] is None:
            raise Refusal(400, f"{needed} is missing; it must be {table[needed].rule}", needed, "missing_field")
        return given

    def ids(self, prompt, name="prompt"):
        """The ids of a prompt that is a text, or consists of ids."""
        if isinstance(prompt, str):
            return beginning(self.chat.tokenizer, prompt)
        for i in prompt:
            if not 0 <= i < self.chat.vocab_size:
                message = f"{name}: the model has the token ids 0 to {self.chat.vocab_size - 1}, found {i}"
                raise Refusal(400, message, name, "wrong_field")
        return prompt

    def check_length(self, texts):
        """Refuse what is far too long before it is encoded. texts: of characters, or lists of ids."""
        if (length := sum(map(len, texts))) > LETTERS * self.size:
            raise self.too_long(f"{length:,} characters")

    def too_long(self, found):
        message = f"the context of this model has {self.size:,} tokens, and an answer needs one; the prompt has {found}"
        return Refusal(400, message, None, "context_length_exceeded")

    def respond(self, given, form, prompt, limit, gone, way):
        """The events of an answer, or all of it. prompt(): its ids, and how many messages were left out."""
        events = self.events(given, form, prompt, limit, gone, way)
        if given["stream"]:
            return events
        for _ in events:
            pass
        return form.whole()

    def events(self, given, form, prompt, limit, gone, way):
        """Write the answers while it is this request's turn."""
        stops = [given["stop"]] if isinstance(given["stop"], str) else given["stop"] or []
        seed = secrets.randbits(63) if given["seed"] is None else given["seed"]
        sampling = {name: given[name] for name in fields.SAMPLING}
        with self.line.turn(gone):
            ids, form.dropped = prompt()
            if len(ids) >= self.size:
                raise self.too_long(f"{len(ids):,} tokens")
            form.prompt_tokens = len(ids)
            limit = min(limit, self.size - len(ids))
            options = {"stops": stops, "gone": gone, "seed": seed, "logprobs": form.with_logprobs} | way | sampling
            for piece in write_answers(self.model, ids, given["n"], limit, **options):
                yield form.event(piece)
        if (given["stream_options"] or {}).get("include_usage"):
            yield form.usage_event()
