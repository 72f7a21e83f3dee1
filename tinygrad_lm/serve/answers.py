"""Several answers to one prompt, each as pieces of text that come as soon as they are drawn."""

from collections import deque
from typing import NamedTuple

from tinygrad_lm.generation.generate import generate_batch, until
from tinygrad_lm.serve.refusal import Gone


class Piece(NamedTuple):
    """Text of answer number `number`, and what was drawn for it (generation/generate.py) since its last piece.

    finish: None; of the last piece, whose text may be empty, "stop" where the answer ended or met a stop, else "length"
    """

    number: int
    text: str
    drawn: list
    finish: str | None


def write_answers(model, prompt, n, limit, spell, ends, stops, gone, **options):
    """Yield the Pieces of n answers of up to `limit` tokens, which advance together.

    spell: a function from an iterator of ids to pieces of text, up to an end; ends: the ids that end an answer; stops:
    texts before which it ends. gone(): has the client hung up? Then Gone is raised. options: of generate_batch.
    """
    source = generate_batch(model, [prompt] * n, limit, stop=lambda tokens: tokens[-1] in ends, **options)
    waiting = [deque() for _ in range(n)]  # what was drawn for an answer while another one was asked for
    taken = [[] for _ in range(n)]  # what the text of an answer has come to since its last piece
    finish = ["stop"] * n  # unless all its tokens are asked for

    def ids(index):
        for _ in range(limit):
            while not waiting[index]:
                if gone():
                    raise Gone
                drawn = next(source)
                waiting[drawn.row].append(drawn)
            drawn = waiting[index].popleft()
            taken[index].append(drawn)
            yield drawn.token
            if drawn.token in ends:
                return
        finish[index] = "length"

    texts = {index: until(spell(ids(index)), stops) for index in range(n)}
    while texts:
        for index in list(texts):
            text = next(texts[index], None)
            drawn, taken[index] = taken[index], []
            if text is None:
                del texts[index]
            yield Piece(index, text or "", drawn, finish[index] if text is None else None)
