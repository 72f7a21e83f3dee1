"""The chat template that a model was published with: Jinja, in a sandbox, with the names that transformers gives it."""

import json
from datetime import datetime
from itertools import pairwise

import numpy as np

from tinygrad_lm.data.tokenizers.json_tokenizer import chat_template, json_object
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.posttrain.chat.chat import ChatFormat, check_messages
from tinygrad_lm.posttrain.chat.hiding import HidingTokenizer

QUESTION, ANSWER = "Which?", "Ostrich."  # of the conversation that shows how a template ends an answer


class TemplateChat(ChatFormat):
    """The chat template among the files of a JsonTokenizer. Raises ConfigError if there is none or it cannot be used.

    date: what the template takes for today, in ISO format [today]; a run keeps its own, so that it can be resumed
    """

    def __init__(self, tokenizer, date=None):
        self.date = date or datetime.now().isoformat(timespec="seconds")
        source = chat_template(tokenizer.files, tokenizer.folder)
        if source is None:
            raise ConfigError(f"chat: {tokenizer.folder} has no chat template, in tokenizer_config.json or a file")
        self.template = compile_template(source, datetime.fromisoformat(self.date))
        self.texts = HidingTokenizer(tokenizer.files, source)
        self.words = special_words(tokenizer.files)
        messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
        try:
            (ids, _), after = self.encode(messages * 2), self.text(messages).rpartition(ANSWER)[2]
        except DataError as error:
            raise ConfigError(f"chat: {tokenizer.folder}: {error}") from error
        added = set(self.texts.ids.values())
        end = next((i for i in self.texts.encode(after).tolist() if i in added), tokenizer.eot)
        ends = {*tokenizer.ends, end} - {None}
        if end is None:
            raise ConfigError(f"chat: {tokenizer.folder}: no token ends the answers of its template, and it has no eos")
        super().__init__(tokenizer, int(ids[0]), end, ends)
        if self.begin in added and ids.tolist().count(self.begin) == 1:
            self.document_token = self.begin

    def render(self, messages):
        check_messages(messages, last="assistant")
        ids, starts = self.encode(messages)
        learn = np.zeros(len(ids), bool)
        for start, stop in pairwise([*starts, len(ids)]):
            end = next((at for at in range(start, stop) if int(ids[at]) in self.ends), None)
            if end is None:
                raise DataError(f"the template writes no end after answer {starts.index(start) + 1}")
            learn[start : end + 1] = True
        return ids, learn

    def prompt(self, messages):
        check_messages(messages, last="user")
        return self.encode(messages, add_generation_prompt=True)[0]

    def answer(self, text):
        ids, learn = self.render([{"role": "user", "content": QUESTION}, {"role": "assistant", "content": text}])
        return ids[learn]

    def encode(self, messages, add_generation_prompt=False):
        """The ids of what the template makes of messages, and where each answer among them begins.

        An answer begins after its prompt, which is what a model sees when it writes one. Where a token would reach over
        that border, as white space on both sides may, the text is cut there before it is encoded.
        """
        text, cuts, starts = self.text(messages, add_generation_prompt), [], []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                before = self.text(messages[:i], add_generation_prompt=True)
                if not text.startswith(before):
                    raise DataError(
                        f"message {i + 1}: what the template writes before this answer changes when it is there, "
                        "so it cannot be learnt as what follows"
                    )
                prompt = self.texts.encode(before, cuts)
                if self.texts.encode(text, cuts)[: len(prompt)].tolist() != prompt.tolist():
                    cuts.append(len(before))
                starts.append(len(prompt))
        return self.texts.encode(text, cuts), starts

    def text(self, messages, add_generation_prompt=False):
        """What the template makes of messages, where their special tokens are hidden. Raises DataError."""
        hidden = list(map(self.texts.hide, messages))
        try:
            return self.template.render(
                messages=hidden, add_generation_prompt=add_generation_prompt, tools=None, documents=None, **self.words
            )
        except Exception as error:  # whatever a program in a template may raise
            raise DataError(f"the template refuses this conversation: {error}") from error

    def to_dict(self):
        """What `chat_from_config` (load.py) needs to restore it, JSON-able; the template is a file of the tokenizer."""
        return {"name": "template", "date": self.date}


def compile_template(source, now):
    """A template as transformers compiles it. Raises ConfigError."""
    try:
        import jinja2
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise ConfigError(f"chat: {error}; pip install 'tinygrad-lm[chat]'") from None

    class Generation(Extension):
        """{% generation %} … {% endgeneration %} marks answers; what is learnt is found without it."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(x, ensure_ascii=False, **options):
        return json.dumps(x, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": now.strftime}
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise ConfigError(f"chat: line {getattr(error, 'lineno', '?')} of the chat template: {error}") from error


def special_words(files):
    """{"bos_token": its text, …}: the names by which a template may write special tokens."""
    settings = json_object(files, "special_tokens_map.json") | json_object(files, "tokenizer_config.json")
    texts = {name: token["content"] if isinstance(token, dict) else token for name, token in settings.items()}
    return {name: text for name, text in texts.items() if name.endswith("_token") and isinstance(text, str)}
