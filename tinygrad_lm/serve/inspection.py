"""The endpoints through which the page looks into the model (look.py), in forms of our own."""

from functools import lru_cache

from tinygrad_lm.generation.sampling import Sampler
from tinygrad_lm.serve import fields
from tinygrad_lm.serve.fields import read_messages
from tinygrad_lm.serve.look import candidates, next_logits, scores
from tinygrad_lm.serve.spelling import spell, spell_all

SHOWN = 20  # candidates for the next token


class Inspection:
    """How likely a Service's model finds each token of a text, and what it expects after it."""

    def __init__(self, service):
        self.service = service
        # The same text is asked about again and again, while a user moves the settings of sampling.
        self.next_logits = lru_cache(4)(lambda tokens: next_logits(service.model, list(tokens)))

    def text(self, request, gone):
        """POST /v1/inspect: for each token of a prompt, or of messages, and of an answer, its log-probability.

        answer: the ids that were drawn; part: which message a token is of, null where the chat format put it.
        """
        service = self.service
        given = service.read(request, fields.INSPECT, "prompt" if "prompt" in request else "messages")
        messages, answer = given["messages"] and read_messages(given["messages"]), given["answer"] or []
        service.check_length([message["content"] for message in messages] if messages else [given["prompt"]])
        with service.line.turn(gone):
            if messages:
                prompt = service.chat.prompt(messages).tolist()
                parts = message_parts(service.chat, messages, prompt)
            else:
                prompt = service.ids(given["prompt"])
                parts = [0] * len(prompt)
            tokens = prompt + service.ids(answer, "answer")
            if len(tokens) > service.size:
                raise service.too_long(f"{len(tokens):,} tokens")
            last = len(messages) if messages else 1
            parts += [None if token in service.chat.ends else last for token in answer]
            return self.report(tokens, parts)

    def report(self, tokens, parts):
        """The log-probabilities as JSON can hold them; the first token has none, since nothing comes before it."""
        chat, found = self.service.chat, scores(self.service.model, tokens)
        rows = [
            {"id": token, "part": part} | spelled
            for token, part, spelled in zip(tokens, parts, spell_all(chat, tokens), strict=True)
        ]
        for row, logprob, rank, entropy in zip(rows[1:], *(x.tolist() for x in found), strict=True):
            row |= {"logprob": logprob, "rank": rank, "entropy": entropy}
        return {"object": "inspection", "model": self.service.name, "tokens": rows}

    def next(self, request, gone):
        """POST /v1/inspect/next: the likeliest tokens after a text of ids, before and after the sampling settings.

        came: one more, which is at the end if it is not among them
        """
        service = self.service
        given = service.read(request, fields.NEXT, "tokens")
        tokens, sampler = service.ids(given["tokens"], "tokens"), Sampler(**{k: given[k] for k in fields.SAMPLING})
        if len(tokens) > service.size:
            raise service.too_long(f"{len(tokens):,} tokens")
        came = [] if given["came"] is None else service.ids([given["came"]], "came")
        with service.line.turn(gone):
            logits = self.next_logits(tuple(tokens))
        shown, before, after, drawable = candidates(logits, sampler, tokens, service.chat.vocab_size, SHOWN, came)
        rows = [{"id": one.token} | one._asdict() | spell(service.chat, one.token, tokens) for one in shown]
        return {
            "object": "next_token",
            "model": service.name,
            "candidates": rows,
            "entropy": {"before": before, "after": after},
            "drawable": drawable,
            "vocabulary": len(logits),
        }


def message_parts(chat, messages, prompt):
    """For each id of a prompt the number of the message whose content it belongs to; None for the chat format's ids.

    A content is where the ids change if it is left out: this holds for any template.
    """
    parts = [None] * len(prompt)
    for number, message in enumerate(messages):
        without = chat.prompt([*messages[:number], message | {"content": ""}, *messages[number + 1 :]]).tolist()
        start = common(prompt, without)
        stop = len(prompt) - min(common(prompt[::-1], without[::-1]), len(without) - start)
        parts[start:stop] = [number] * (stop - start)
    return parts


def common(a, b):
    """How many ids two texts have in common at their beginnings."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
