"""Batches of conversations to imitate, and of pairs of answers to prefer.

The target of a position is the next token where that is learnt, and IGNORED elsewhere. Rows are padded on the right,
where causal attention does not look. Nothing is cut in two: of a conversation that is longer than the context the last
answers are left out, and one whose first answer does not fit is skipped, both counted.
"""

from bisect import bisect_left, insort
from fractions import Fraction
from functools import lru_cache

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.data.loader import BatchStream
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.train.objective import IGNORED


class ShuffledRows(BatchStream):
    """Base class: rows in random order, epoch by epoch; a batch depends on the seed and its number alone.

    rows  what becomes a row of a batch; a subclass has `batch(rows)`, the tuple of arrays of some of them
    """

    def __init__(self, name, rows, sizes, batch_size, block_size, seed, accumulate):
        super().__init__({name: (Fraction(1), rows)}, batch_size, block_size, seed, accumulate)
        self.name, self.rows, self.sizes = name, rows, sizes

    def __call__(self, step, part=0):
        return self.batch([self.rows[i] for i in self.numbers(step, part)])

    def numbers(self, step, part=0):
        """Which rows are in a batch, (B,)."""
        first = (step * self.accumulate + part) * self.batch_size
        places = (divmod(i, len(self.rows)) for i in range(first, first + self.batch_size))
        return [int(shuffled(self.seed, epoch, len(self.rows))[place]) for epoch, place in places]

    def once(self):
        """Yield all rows once in batches that are always the same, short rows first."""
        for i in range(0, len(self.order), self.batch_size):
            yield self.batch([self.rows[j] for j in self.order[i : i + self.batch_size]])

    @property
    def order(self):
        """The numbers of the rows, short ones first."""
        return sorted(range(len(self.rows)), key=self.sizes.__getitem__)

    @property
    def tokens_a_step(self):
        """On average, without padding."""
        return round(self.batch_size * self.accumulate * sum(self.sizes) / len(self.sizes))

    def used(self, steps):
        return {self.name: {"epochs": steps * self.accumulate * self.batch_size / len(self.rows)}}

    def amount(self, steps):
        epochs = self.used(steps)[self.name]["epochs"]
        return f"{steps:,} steps of {self.batch_size * self.accumulate:,} rows, {epochs:.2g} epochs"


class Conversations(ShuffledRows):
    """Batches tokens (B, T), targets (B, T) of conversations, which have `messages`.

    packed: several conversations a row, of block_size tokens, each of which sees itself alone: for models with rotary
    positions, and chat formats whose first id occurs nowhere else. Otherwise a row is a conversation, and T the length
    of the batch's longest, or with `even` of the longest of all, for devices that want all steps alike.
    kept: the conversations that fit; shortened, skipped: how many of these do without their last answers, how many not
    """

    def __init__(
        self, conversations, chat, batch_size, block_size, seed=0, accumulate=1, packed=False, even=False, name="train"
    ):
        found = [chat.render(conversation.messages) for conversation in conversations]
        fitting = [cut(ids, learn, block_size + 1) for ids, learn in found]
        examples = [inputs_and_targets(*example)[:, :-1] for example in fitting if example]
        self.kept = [x for x, example in zip(conversations, fitting, strict=True) if example]
        self.skipped = len(found) - len(examples)
        self.shortened = sum(bool(cut) and len(cut[0]) < len(ids) for cut, (ids, _) in zip(fitting, found, strict=True))
        if not examples:
            raise DataError(
                f"none of {len(found):,} conversations fits into a context of {block_size:,} tokens\n"
                "  hint : give shorter ones, or choose a model with a longer context"
            )
        self.pad, self.width = chat.begin, None
        if packed:
            if chat.document_token is None:
                raise ConfigError(
                    "conversations: packed rows need a token that begins a conversation and occurs nowhere else, "
                    "which this model's chat template lacks; do not pack them"
                )
            self.document_token, self.width = chat.document_token, block_size
            examples = [np.concatenate([examples[i] for i in row], axis=1) for row in pack(examples, block_size)]
        elif even:
            self.width = max(x.shape[1] for x in examples)
        super().__init__(name, examples, [x.shape[1] for x in examples], batch_size, block_size, seed, accumulate)

    def batch(self, rows):
        tokens, targets = padded(rows, self.pad, self.width)
        return tokens, targets

    def amounts(self):
        """How many conversations there are, and what did not fit into the context, in words."""
        facts = {"shortened to the answers that fit": self.shortened, "skipped as too long": self.skipped}
        lacking = [f"{count:,} {what}" for what, count in facts.items() if count]
        rows = f" in {len(self.rows):,} rows" if len(self.rows) < len(self.kept) else ""
        return f"{len(self.kept):,} conversations{rows}" + f" ({', '.join(lacking)})" * bool(lacking)

    def beginning(self, count):
        return self.rows[0][0, :count]


class Pairs(ShuffledRows):
    """Batches tokens (B, 2, T), targets (B, 2, T) of pairs: the chosen answer, and the rejected one.

    A pair has `prompt`, messages, and `chosen` and `rejected`, texts. Only these answers are learnt, with their ends,
    which are among the tokens, too; no answer of the prompt is. kept, skipped: how many pairs fit, and how many not.
    """

    def __init__(self, pairs, chat, batch_size, block_size, seed=0, accumulate=1, name="train"):
        found = [[answered(chat, pair.prompt, text) for text in (pair.chosen, pair.rejected)] for pair in pairs]
        rows = [pair for pair in found if max(x.shape[1] for x in pair) <= block_size]
        self.kept, self.skipped = len(rows), len(found) - len(rows)
        if not rows:
            raise DataError(f"none of {len(found):,} pairs fits into a context of {block_size:,} tokens")
        sizes = [sum(x.shape[1] for x in pair) for pair in rows]
        self.pad = chat.begin
        super().__init__(name, rows, sizes, batch_size, block_size, seed, accumulate)

    def batch(self, rows):
        tokens, targets = padded([x for pair in rows for x in pair], self.pad)
        return tokens.reshape(len(rows), 2, -1), targets.reshape(len(rows), 2, -1)


def answered(chat, prompt, text):
    """Tokens and targets, (2, n), of an answer to a prompt, of which the answer alone is learnt."""
    ids, learn = chat.render([*prompt, {"role": "assistant", "content": text}])
    return inputs_and_targets(ids, learn & (np.arange(len(ids)) >= len(chat.prompt(prompt))))


def inputs_and_targets(ids, learn):
    """(2, n): the ids, and for each the next one if it is learnt."""
    targets = np.append(np.where(learn[1:], ids[1:], IGNORED), IGNORED)
    return np.stack([ids, targets]).astype(np.int64)


def cut(ids, learn, most):
    """The ids and what of them is learnt, up to the last answer that ends within `most` tokens; None if none does."""
    if len(ids) <= most:
        return ids, learn
    ends = np.flatnonzero(learn[:most] & ~learn[1 : most + 1])
    return (ids[: ends[-1] + 1], learn[: ends[-1] + 1]) if len(ends) else None


def pack(examples, size):
    """Lists of the numbers of examples (2, n) that together have at most `size` tokens.

    Best fit decreasing: each, longest first, goes where it leaves the least room.
    """
    rows, room = [], []  # (tokens left, row), in order
    for i in sorted(range(len(examples)), key=lambda i: -examples[i].shape[1]):
        n = examples[i].shape[1]
        place = bisect_left(room, (n, -1))
        left, row = room.pop(place) if place < len(room) else (size, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(i)
        insort(room, (left - n, row))
    return rows


def padded(rows, pad, width=None):
    """Tokens and targets, (B, T) each, of rows (2, n). T: width, or the longest of them."""
    T = width or max(x.shape[1] for x in rows)
    batch = np.empty((2, len(rows), T), np.int64)
    batch[0], batch[1] = pad, IGNORED
    for i, x in enumerate(rows):
        batch[:, i, : x.shape[1]] = x
    return batch


@lru_cache(maxsize=4)
def shuffled(seed, epoch, count):
    """The order of so many rows in an epoch."""
    return random(seed, "conversations", epoch).permutation(count)
