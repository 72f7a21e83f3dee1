"""The base classes of the synthetic sources: options, numbered documents, and how a document ends.

After each unit (a character, a line, a speech) a document ends with the same probability, whatever came before. So the
number of units is geometric, the end has a known cost, and a model gains nothing by counting.
"""

from dataclasses import field, fields
from functools import cached_property
from math import log
from typing import NamedTuple

from tinygrad_lm.backend import random
from tinygrad_lm.data.config_table import check_table, problem_list
from tinygrad_lm.errors import ConfigError, TokenError


class Entropy(NamedTuple):
    """Expected nats of a document, its end included; and the same divided by its expected characters."""

    document: float
    character: float


class SyntheticSource:
    """Base class: a frozen dataclass whose fields are its options. Raises ConfigError with every invalid one.

    A subclass defines
    write(rng)   a random document
    nats(text)   −ln P(text); raises TokenError for a text of probability 0
    entropy      the expectation of nats, an Entropy
    """

    def __post_init__(self):
        _, problems = check_table(vars(self), option_kinds(type(self)))
        if problems:
            raise ConfigError(problem_list(type(self).__name__, problems))

    def documents(self, count, seed=0, first=0):
        """Yield the documents first, …, count − 1 of a seed, each a function of (seed, number) alone."""
        stream = f"synthetic/{type(self).__name__}"
        return (self.write(random(seed, stream, i)) for i in range(first, count))


class Sentences(SyntheticSource):
    """Base class: documents of sentences, one a line, each drawn uniformly from a fixed list.

    A subclass has the option `sentences`, how many a document has on average, and defines `lines`: all that there are,
    each with its line end, no two the same.
    """

    def write(self, rng):
        places = rng.integers(len(self.lines), size=1 + draw_geometric(rng, self.sentences - 1))
        return "".join(self.lines[i] for i in places)

    def nats(self, text):
        lines = text.splitlines(keepends=True)
        if strange := [line for line in lines if line not in self.known]:
            raise TokenError(f"{type(self).__name__.lower()}: {strange[0]!r} is not a sentence of this source")
        if not lines:
            raise TokenError(f"{type(self).__name__.lower()}: expected a sentence or more, found none")
        return len(lines) * log(len(self.lines)) + geometric_nats(len(lines) - 1, self.sentences - 1)

    @cached_property
    def known(self):
        return frozenset(self.lines)

    @property
    def entropy(self):
        nats = self.sentences * log(len(self.lines)) + geometric_nats(self.sentences - 1, self.sentences - 1)
        characters = sum(map(len, self.lines)) / len(self.lines)
        return Entropy(nats, nats / (self.sentences * characters))


def option(default, kind):
    """A field of a source. kind: (what is expected, a function that says whether a value is that)"""
    return field(default=default, metadata={"kind": kind})


def option_kinds(source):
    """{name: kind} of the options of a class of sources."""
    return {f.name: f.metadata["kind"] for f in fields(source)}


def alphabet_kind(without=""):
    """The kind of a text of different characters."""
    fits = lambda x: isinstance(x, str) and 1 < len(x) == len(set(x)) and not set(x) & set(without)
    return "two different characters or more" + f", none of them {without!r}" * bool(without), fits


def draw_string(rng, alphabet, n):
    """n characters, drawn uniformly."""
    return "".join(alphabet[i] for i in rng.integers(len(alphabet), size=n))


def draw_geometric(rng, mean):
    """Draw n = 0, 1, 2, … with probability q (1 − q)ⁿ and this mean, 1/q − 1: the units after the first."""
    return int(rng.geometric(1 / (1 + mean))) - 1


def geometric_nats(n, mean):
    """−ln P(n) of `draw_geometric`. It is linear in n, so at the mean it is the entropy."""
    if n and not mean:
        raise TokenError(f"a document of this source ends after its first unit; this one has {n} more")
    return (n + 1) * log(1 + mean) - (n * log(mean) if n else 0.0)
