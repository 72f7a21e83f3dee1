"""Messages to token ids and back: ids in, ids out, and never text in between.

A conversation is a list of messages, {"role": "system" | "user" | "assistant", "content": text}. What says who speaks
are ids, which no text can be encoded to, so that what a user writes cannot speak for another role.
"""

from itertools import groupby, takewhile

import numpy as np

from tinygrad_lm.errors import DataError

ROLES = ("system", "user", "assistant")
SPECIAL = ("begin", *ROLES, "end")  # the ids beyond the vocabulary, in this order


class ChatFormat:
    """Base class of Chat and of TemplateChat (template.py): how conversations look to a model.

    tokenizer       of the text between the special ids
    begin           the first id of every conversation
    end, ends       the id that is learnt as the end of an answer, and all ids (a frozenset) that end one
    document_token  begin, where it occurs nowhere else: attention inside conversations (data/loader.py); else None
    vocab_size      how many ids the model must know

    A subclass has `render`, `prompt`, `answer` and `to_dict`.
    """

    document_token = None

    def __init__(self, tokenizer, begin, end, ends):
        self.tokenizer, self.begin, self.end, self.ends = tokenizer, begin, end, frozenset(ends)

    @property
    def vocab_size(self):
        return self.tokenizer.vocab_size

    def render(self, messages):
        """A whole conversation: ids (n,) int32, and which of them are learnt, (n,) bool: the answers and their ends."""
        raise NotImplementedError

    def prompt(self, messages):
        """A conversation up to where the assistant's next answer begins: ids (n,) int32."""
        raise NotImplementedError

    def answer(self, text):
        """The ids of an answer, its end included, (n,) int32."""
        raise NotImplementedError

    def parse(self, ids):
        """(text, ended): the answer that drawn ids spell, and whether it came to its end."""
        ids = [int(i) for i in ids]
        return "".join(self.stream(ids)), not self.ends.isdisjoint(ids)

    def stream(self, ids):
        """Yield the text of an answer as its ids come, up to its end; a special id within it appears by its name."""
        ids = takewhile(lambda i: i not in self.ends, map(int, ids))
        known = self.tokenizer.vocab_size
        for special, run in groupby(ids, lambda i: known <= i < self.vocab_size):
            if special:
                yield from (name_of(SPECIAL[i - known]) for i in run)
            else:
                yield from self.tokenizer.stream(run)


class Chat(ChatFormat):
    """The built-in template, for a model without one: begin, then for each message its role, its text and end.

    Its five special ids follow the vocabulary of the tokenizer, so the model needs as many more rows (adapt/grow.py).
    """

    def __init__(self, tokenizer):
        self.special = {name: tokenizer.vocab_size + i for i, name in enumerate(SPECIAL)}
        super().__init__(tokenizer, self.special["begin"], self.special["end"], {self.special["end"]})
        self.document_token = self.begin

    @property
    def vocab_size(self):
        return self.tokenizer.vocab_size + len(SPECIAL)

    def render(self, messages):
        check_messages(messages, last="assistant")
        turns = [self._turn(message) for message in messages]
        learn = [
            np.arange(len(turn)) >= (1 if message["role"] == "assistant" else len(turn))
            for message, turn in zip(messages, turns, strict=True)
        ]
        return np.concatenate([[self.begin], *turns], dtype=np.int32), np.concatenate([[False], *learn])

    def prompt(self, messages):
        check_messages(messages, last="user")
        turns = [self._turn(message) for message in messages]
        return np.concatenate([[self.begin], *turns, [self.special["assistant"]]], dtype=np.int32)

    def _turn(self, message):
        """The ids of a message: whose it is, the text, and end."""
        return np.insert(self.answer(message["content"]), 0, self.special[message["role"]])

    def answer(self, text):
        return np.append(self.tokenizer.encode(text), np.int32(self.end))

    def to_dict(self):
        """What `chat_from_config` (load.py) needs to restore it, JSON-able."""
        return {"name": "built-in"}


def name_of(special):
    """How a special id appears in a text."""
    return f"<|{special}|>"


def check_messages(messages, last):
    """Raise DataError, with the number of the first wrong message, unless a conversation is one.

    The rule: the system's message comes first if there is one; then user and assistant take turns, the user first; and
    the last message is by the role `last`.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f"expected a list of messages, found {messages!r:.100}")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise DataError(f'message {number}: expected {{"role": …, "content": a text}}, found {message!r:.100}')
        role, before = message.get("role"), messages[number - 2]["role"] if number > 1 else None
        if role not in ROLES:
            raise DataError(f"message {number}: role must be one of {', '.join(ROLES)}, found {role!r:.100}")
        expected = {None: ("system", "user"), "user": ("assistant",)}.get(before, ("user",))
        if role not in expected:
            after = f"after the {before}'s" if before else "at the beginning"
            raise DataError(f"message {number}: expected the {' or the '.join(expected)} {after}, found the {role}")
    if role != last:
        purpose = "an answer to learn" if last == "assistant" else "a question to answer"
        raise DataError(f"message {number}, the last, must be the {last}'s, {purpose}; found the {role}'s")
