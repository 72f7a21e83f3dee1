"""The forms in which OpenAI's interface gives answers, whole or in events."""

import secrets
import time

from tinygrad_lm.serve.spelling import spell


class Form:
    """Collects the Pieces (answers.py) of the answers to one request. A subclass says how they are written.

    with_logprobs: whether log-probabilities are asked for; with_ids: whether the ids of the tokens are
    """

    prefix = kind = chunk_kind = ""

    def __init__(self, chat, name, n, with_logprobs=False, with_ids=False):
        self.chat, self.with_logprobs, self.with_ids = chat, with_logprobs, with_ids
        self.id, self.created, self.name = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time()), name
        self.prompt_tokens = self.dropped = 0
        self.pieces, self.ids = [[] for _ in range(n)], [[] for _ in range(n)]

    def event(self, piece):
        """A piece as the event of a stream."""
        first = not self.pieces[piece.number]
        entries = self.take(piece)
        choice = {"index": piece.number} | self.delta(piece, first) | self.extras(entries, piece.drawn)
        return self.head(self.chunk_kind) | {"choices": [choice | {"finish_reason": piece.finish}]}

    def take(self, piece):
        """Keep a piece; return what is said of its tokens."""
        entries, ids = [], self.ids[piece.number]
        for drawn in piece.drawn:
            if self.with_logprobs and drawn.token not in self.chat.ends:
                top = [spell(self.chat, token, ids) | {"logprob": logprob} for token, logprob in drawn.likeliest]
                entries.append(spell(self.chat, drawn.token, ids) | {"logprob": drawn.logprob, "top_logprobs": top})
            ids.append(drawn.token)
        self.pieces[piece.number].append((piece, entries))
        return entries

    def whole(self):
        """All answers, as one object."""
        choices = []
        for index, taken in enumerate(self.pieces):
            text = "".join(piece.text for piece, _ in taken)
            drawn = [drawn for piece, _ in taken for drawn in piece.drawn]
            choice = {"index": index} | self.message(text) | self.extras([e for _, es in taken for e in es], drawn)
            choices.append(choice | {"finish_reason": taken[-1][0].finish})
        return self.head(self.kind) | {"choices": choices, "usage": self.usage()}

    def head(self, kind):
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.name}
        return head | ({"dropped_messages": self.dropped} if self.dropped else {})

    def extras(self, entries, drawn):
        """The parts of a choice beside its text."""
        ids = {"token_ids": [one.token for one in drawn]} if self.with_ids else {}
        return {"logprobs": self.logprobs(entries) if self.with_logprobs else None} | ids

    def usage(self):
        drawn = sum(map(len, self.ids))
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": drawn,
            "total_tokens": self.prompt_tokens + drawn,
        }

    def usage_event(self):
        """The last event of a stream whose client wants to know what it used."""
        return self.head(self.chunk_kind) | {"choices": [], "usage": self.usage()}


class ChatForm(Form):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def delta(self, piece, first):
        said = {"content": piece.text} if piece.text else {}
        return {"delta": ({"role": "assistant"} if first else {}) | said}

    def message(self, text):
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs(self, entries):
        return {"content": entries, "refusal": None}


class CompletionForm(Form):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def delta(self, piece, first):
        return {"text": piece.text}

    def message(self, text):
        return {"text": text}

    def logprobs(self, entries):
        """Offsets count the characters of what this object brings."""
        lengths = [len(entry["token"]) for entry in entries]
        return {
            "tokens": [self.label(entry) for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": [{self.label(top): top["logprob"] for top in entry["top_logprobs"]} for entry in entries],
            "text_offset": [sum(lengths[:i]) for i in range(len(lengths))],
        }

    def label(self, entry):
        """A token by its text; parts of characters, whose texts are all alike, by their bytes."""
        is_part = "�" in entry["token"] and entry["bytes"]
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in entry["bytes"]) if is_part else entry["token"]
