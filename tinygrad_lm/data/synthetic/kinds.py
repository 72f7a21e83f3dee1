"""Seven kinds of synthetic sources: the probability of each document is known, and so is the lowest possible loss.

A model's loss in nats is at least the entropy, in expectation over documents (Cover & Thomas, Elements of Information
Theory, theorem 5.4.3). A tokenizer that maps texts to token sequences one to one keeps their probabilities. So with an
end-of-text token before each document, Σ nats / Σ tokens over some documents is the loss of a perfect model on them, in
nats per token. That model sees whole documents; a window that begins inside one lacks its beginning.

In a mixture file (mixture_file.py): synthetic = { kind = "copy", documents = 10_000, seed = 1, length = 30 }.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import log

from tinygrad_lm.data.config_table import check_table, number_kind, problem_list, whole_kind
from tinygrad_lm.data.synthetic.island import Island
from tinygrad_lm.data.synthetic.markov import Chain, entropies
from tinygrad_lm.data.synthetic.play import CAST, play_nats, speech_entropy, speeches
from tinygrad_lm.data.synthetic.sums import Additions
from tinygrad_lm.data.synthetic.synthetic_source import (
    Entropy,
    SyntheticSource,
    alphabet_kind,
    draw_geometric,
    draw_string,
    geometric_nats,
    option,
    option_kinds,
)
from tinygrad_lm.errors import ConfigError, TokenError

SEPARATOR = "|"
LARGEST_CHAIN = 2**11  # contexts; the stationary distribution takes as many linear equations


@dataclass(frozen=True)
class Markov(SyntheticSource):
    """Each character depends on the `order` characters before it; a model can learn the tables of an n-gram.

    language: the seed of the chain's probabilities. The seed of `documents` draws texts of the same language.
    """

    order: int = option(2, whole_kind(1, 10))
    alphabet: str = option("abcdefgh", alphabet_kind())
    length: float = option(200.0, number_kind(1))  # characters per document, on average
    concentration: float = option(0.3, number_kind(0.05))  # see Chain
    language: int = option(0, whole_kind(0, 2**64 - 1))

    def __post_init__(self):
        super().__post_init__()
        if self.length < self.order:
            raise ConfigError(f"Markov: a length of {self.length} is less than the order, {self.order}")
        if (size := len(self.alphabet) ** self.order) > LARGEST_CHAIN:
            raise ConfigError(f"Markov: {size:,} contexts are more than {LARGEST_CHAIN:,}; lower the order")

    @cached_property
    def chain(self):
        return Chain(self.order, self.alphabet, self.concentration, self.language)

    def write(self, rng):
        return self.chain.write(rng, draw_geometric(rng, self.length - self.order))

    def nats(self, text):
        return self.chain.nats(text) + geometric_nats(len(text) - self.order, self.length - self.order)

    @property
    def entropy(self):
        more = self.length - self.order
        nats = float(entropies(self.chain.start)) + more * self.chain.rate + geometric_nats(more, more)
        return Entropy(nats, nats / self.length)


@dataclass(frozen=True)
class Copy(SyntheticSource):
    """A random string, a separator, and the same string: abc|abc. What follows the separator costs nothing.

    To predict it, a model must look up what came next the first time; repeated random text reveals induction heads
    (Elhage et al. 2021, "A mathematical framework for transformer circuits").
    """

    alphabet: str = option("abcdefghijklmnopqrstuvwxyz", alphabet_kind(without=SEPARATOR))
    length: float = option(20.0, number_kind(1))  # of the string, on average

    def write(self, rng):
        string = draw_string(rng, self.alphabet, 1 + draw_geometric(rng, self.length - 1))
        return f"{string}{SEPARATOR}{string}"

    def nats(self, text):
        string = text.partition(SEPARATOR)[0]
        if text != f"{string}{SEPARATOR}{string}" or not string or set(string) - set(self.alphabet):
            raise TokenError(
                f"copy: expected a string of {self.alphabet!r}, {SEPARATOR!r} and the same string, found {text!r}"
            )
        return len(string) * log(len(self.alphabet)) + geometric_nats(len(string) - 1, self.length - 1)

    @property
    def entropy(self):
        nats = self.length * log(len(self.alphabet)) + geometric_nats(self.length - 1, self.length - 1)
        return Entropy(nats, nats / (2 * self.length + 1))


@dataclass(frozen=True)
class Induction(SyntheticSource):
    """Keys, each followed by its value: BqDcBqAxDc. Values differ by document; a repeated one costs nothing.

    [A][B] … [A] → [B] is what an induction head completes (Olsson et al. 2022, "In-context learning and induction
    heads"). Keys are uniform, and so is the value of each key. Of K keys, n pairs contain K (1 − (1 − 1/K)ⁿ) different
    ones on average.
    """

    keys: str = option("ABCDEFGH", alphabet_kind())
    values: str = option("abcdefghijklmnopqrstuvwxyz", alphabet_kind())
    pairs: float = option(20.0, number_kind(1))  # per document, on average

    def write(self, rng):
        value = draw_string(rng, self.values, len(self.keys))
        places = rng.integers(len(self.keys), size=1 + draw_geometric(rng, self.pairs - 1))
        return "".join(self.keys[i] + value[i] for i in places)

    def nats(self, text):
        known = {}
        for key, value in zip(text[::2], text[1::2], strict=False):
            if key not in self.keys or value not in self.values or known.setdefault(key, value) != value:
                raise TokenError(
                    f"induction: {key + value!r} is not a pair of this source, or contradicts the first {key!r}"
                )
        if not text or len(text) % 2:
            raise TokenError(f"induction: expected pairs, found {text[-40:]!r}")
        n = len(text) // 2
        return n * log(len(self.keys)) + len(known) * log(len(self.values)) + geometric_nats(n - 1, self.pairs - 1)

    @property
    def entropy(self):
        K, more = len(self.keys), self.pairs - 1
        different = K * (1 - (1 - 1 / K) / (1 + more / K))  # E sⁿ = 1 / (1 + (1 − s) E n) for a geometric n
        nats = self.pairs * log(K) + different * log(len(self.values)) + geometric_nats(more, more)
        return Entropy(nats, nats / (2 * self.pairs))


@dataclass(frozen=True)
class Arithmetic(SyntheticSource):
    """Lines such as 17+5=22. Both numbers are uniform below 10^digits; the sum costs nothing."""

    digits: int = option(2, whole_kind(1, 18))
    lines: float = option(10.0, number_kind(1))  # per document, on average

    def write(self, rng):
        pairs = rng.integers(10**self.digits, size=(1 + draw_geometric(rng, self.lines - 1), 2)).tolist()
        return "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)

    def nats(self, text):
        *lines, rest = text.split("\n")
        for line in lines:
            numbers = re.match(rf"([0-9]{{1,{self.digits}}})\+([0-9]{{1,{self.digits}}})=", line)
            a, b = map(int, numbers.groups()) if numbers else (0, 0)
            if line != f"{a}+{b}={a + b}":
                raise TokenError(f"arithmetic: {line!r} is not a sum of two numbers of at most {self.digits} digits")
        if rest or not lines:
            raise TokenError(f"arithmetic: a text of whole lines ends with a line end; this one with {rest[-40:]!r}")
        return len(lines) * 2 * self.digits * log(10) + geometric_nats(len(lines) - 1, self.lines - 1)

    @property
    def entropy(self):
        nats = self.lines * 2 * self.digits * log(10) + geometric_nats(self.lines - 1, self.lines - 1)
        # A number of 10ʲ or more has more than j digits; m (m + 1) / 2 pairs have a sum below m ≤ 10^digits.
        n, powers = 10**self.digits, [10**j for j in range(1, self.digits + 1)]
        number = 1 + sum(1 - m / n for m in powers)
        total = 1 + sum(1 - m * (m + 1) / 2 / n**2 for m in powers)
        return Entropy(nats, nats / (self.lines * (2 * number + total + len("+=\n"))))


@dataclass(frozen=True)
class Play(SyntheticSource):
    """Consecutive speeches of the built-in play (play.py)."""

    speeches: float = option(3.0, number_kind(1))  # per document, on average

    def write(self, rng):
        return "".join(islice(speeches(rng), 1 + draw_geometric(rng, self.speeches - 1)))

    def nats(self, text):
        if not text:
            raise TokenError("play: expected a speech or more, found none")
        return play_nats(text) + geometric_nats(text.count("\n\n") - 1, self.speeches - 1)

    @property
    def entropy(self):
        more, (nats, characters) = self.speeches - 1, speech_entropy()
        nats = self.speeches * nats + log(len(CAST)) + more * log(len(CAST) - 1) + geometric_nats(more, more)
        return Entropy(nats, nats / (self.speeches * characters))


KINDS = {
    "markov": Markov,
    "copy": Copy,
    "induction": Induction,
    "arithmetic": Arithmetic,
    "play": Play,
    "island": Island,
    "additions": Additions,
}
DOCUMENT_KEYS = {"documents": whole_kind(1, 2**63 - 1), "seed": whole_kind(0, 2**64 - 1)}  # arguments of `documents`


def make_synthetic_source(table):
    """The source of a table such as {"kind": "copy", "documents": 10_000, "seed": 1, "length": 30}.

    documents and seed (default 0) are arguments of `documents`. Raises ConfigError with every problem.
    """
    options = dict(table)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"synthetic: kind {kind!r} is unknown; expected one of {', '.join(KINDS)}")
    values, problems = check_table(options, option_kinds(KINDS[kind]) | DOCUMENT_KEYS)
    if "documents" not in options:
        problems.insert(0, f"documents: expected {DOCUMENT_KEYS['documents'][0]}, found none; say how many to draw")
    if problems:
        raise ConfigError(problem_list(f"synthetic {kind}", problems))
    return KINDS[kind](**{name: value for name, value in values.items() if name not in DOCUMENT_KEYS})
