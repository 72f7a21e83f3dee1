"""What the sources of synthetic.py share: options, documents as a function of their number, and how documents end.

After each unit (a character, a line, a speech) a document ends with the same probability, whatever came before. So its
number of units is geometric, its end has a known cost, and no model gains by counting.
"""

from dataclasses import field, fields
from math import isfinite, log
from typing import NamedTuple

from tinygrad_lm.backend import random
from tinygrad_lm.errors import ConfigError, TokenError


class Entropy(NamedTuple):
    """In nats: of a document, its end included, in expectation; and that over its characters in expectation."""

    document: float
    character: float


class Source:
    """A frozen dataclass whose fields are its options; ConfigError tells all that do not fit.

    write(rng)   a document, of a generator of random numbers
    nats(text)   −ln P(text); raises TokenError for a text that it cannot write
    entropy      the expectation of nats, an Entropy
    """

    def __post_init__(self):
        if problems := wrong(vars(self), options(type(self))):
            raise ConfigError("\n  ".join([f"{type(self).__name__}: {len(problems)} to mend", *problems]))

    def documents(self, count, seed=0, first=0):
        """The documents first, …, count − 1 of a seed, each a function of (seed, number) alone."""
        stream = f"synthetic/{type(self).__name__}"
        return (self.write(random(seed, stream, i)) for i in range(first, count))


def option(default, expected, fits):
    """A field of a source: what it may be, in words and as a function."""
    return field(default=default, metadata={"expected": (expected, fits)})


def number(least):
    return f"a number of at least {least}", lambda x: type(x) in (int, float) and isfinite(x) and x >= least


def whole(least, most):
    return f"a whole number from {least} to {most}", lambda x: type(x) is int and least <= x <= most


def characters(without=""):
    fits = lambda x: isinstance(x, str) and 1 < len(x) == len(set(x)) and not set(x) & set(without)
    return "two different characters or more" + f", none of them {without!r}" * bool(without), fits


def options(kind):
    """{name: (what is expected, whether a value is that)} of a class of sources."""
    return {f.name: f.metadata["expected"] for f in fields(kind)}


def wrong(values, known):
    """A line for each value that does not fit."""
    return [
        f"{name!r} is unknown; expected one of {', '.join(known)}"
        if name not in known
        else f"{name}: expected {known[name][0]}, found {x!r}"
        for name, x in values.items()
        if name not in known or not known[name][1](x)
    ]


def drawn(rng, alphabet, n):
    """n of the characters, each equally likely."""
    return "".join(alphabet[i] for i in rng.integers(len(alphabet), size=n))


def geometric(rng, mean):
    """How many units follow the first: n = 0, 1, 2, … with probability q (1 − q)ⁿ, and this mean, 1/q − 1."""
    return int(rng.geometric(1 / (1 + mean))) - 1


def geometric_nats(n, mean):
    """−ln P(n) of `geometric`. It is linear in n, so at the mean it is the entropy."""
    if n and not mean:
        raise TokenError(f"a document of this source ends after its first unit, this one has {n} more")
    return (n + 1) * log(1 + mean) - (n * log(mean) if n else 0.0)
