"""Draw answers from a model, to learn from them or to see what it can do.

Everything is drawn at temperature 1 from the model's whole distribution, which is the one that the loss is of.

N answers, T time.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np

from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.generation.generate import generate_batch
from tinygrad_lm.train.objective import IGNORED


class Answers(NamedTuple):
    """What was drawn: for each of N answers its prompt, its text, and whether it came to its end in time.

    tokens, targets  (N, T) what a model reads and what it drew, IGNORED where that was not drawn
    """

    prompts: list
    texts: list
    ended: np.ndarray
    tokens: np.ndarray
    targets: np.ndarray


def draw_answers(model, chat, prompts, limit, seed, rows):
    """Draw an answer to each of some prompts (conversations.py), at most `limit` tokens: a list of lists of ids.

    rows: the numbers that each one's draws depend on, besides the seed.
    """
    ids = [chat.prompt(prompt.messages) for prompt in prompts]
    answers = [[] for _ in prompts]
    for row, token, *_ in generate_batch(model, ids, limit, seed, lambda drawn: drawn[-1] in chat.ends, rows=rows):
        answers[row].append(token)
    return answers


def draw_dealt(model, chat, prompts, limit, seed, rows, pieces):
    """As draw_answers, on all cores of all ranks. pieces: which prompts are drawn together, lists of their places; a
    run fixes them, because sizes decide about the last bits."""

    def piece(here):
        drawn = draw_answers(model, chat, [prompts[i] for i in here], limit, seed, [rows[i] for i in here])
        return [x for answer in drawn for x in (len(answer), *answer)]

    numbers = iter(np.concatenate(dealt(piece, pieces)).astype(int).tolist())
    return [[*islice(numbers, length)] for length in numbers]


def as_batch(chat, prompts, answers):
    """The Answers that drawn ids are, padded on the right."""
    ids = [chat.prompt(prompt.messages) for prompt in prompts]
    T = max(len(before) + len(answer) for before, answer in zip(ids, answers, strict=True)) - 1
    tokens, targets = np.zeros((len(ids), T), np.int64), np.full((len(ids), T), IGNORED)
    for i, (before, answer) in enumerate(zip(ids, answers, strict=True)):
        n = len(before) + len(answer) - 1
        tokens[i, :n] = [*before, *answer[:-1]]
        targets[i, len(before) - 1 : n] = answer
    texts, ended = zip(*(chat.parse(answer) for answer in answers), strict=True)
    return Answers(prompts, list(texts), np.array(ended), tokens, targets)
