"""A funny little play without end, written by a grammar with a known entropy.

It is the corpus when there is no network, and a yardstick: nothing can predict these characters better than the dice
that chose them, so a validation loss near `entropy_per_character()` is as good as a loss can be.

A speech is written by replacing each {symbol} with one of its expansions, drawn by weight, until no symbol is left. No
two classes share a word, so a text has only one derivation, and its entropy is that of the throws of the dice.
"""

import re
from bisect import bisect
from collections import defaultdict
from functools import cache
from itertools import accumulate
from math import log

import numpy as np

from tinygrad_lm import backend
from tinygrad_lm.errors import TokenError


def zipf(text):
    """Each word with its weight 1 / (rank + 5): Zipf's law, flat at the top as in Mandelbrot (1953)."""
    return {word: 1 / (rank + 5) for rank, word in enumerate(text.split(), start=1)}


CAST = ["KING", "QUEEN", "FOOL", "COOK", "DUKE", "MONK", "NUN", "GHOST", "HAG", "GOOSE", "OWL", "CAT"]

GRAMMAR = {
    "speech": {"{line}{end}\n": 1, "{line}{pause}\n{speech}": 2},
    "line": {
        "{subject} {did} {object}": 4,
        "{Do} {object}": 2,
        "{Whose} {noun} is {adjective}": 1,
        "{oath}, {adjective} {noun}": 1,
        "{oath}, {song}": 3,
    },
    "subject": {"{Whose} {thing}": 1, "{who}": 1},
    "object": {"{whose} {thing}": 2, "{whom}": 1},
    "thing": {"{noun}": 1, "{adjective} {noun}": 1},
    "song": {"{consonant}{vowel}": 1, "{consonant}{vowel} {song}": 2},
    "end": {".": 2, "!": 1, "?": 1},
    "pause": {",": 3, ".": 2, "!": 2, "?": 2, ";": 1, ":": 1},
    "noun": zipf("""
        pig hat pie wig ham owl egg hen cat bee pea fox cow nun eel sock bed aunt ape tax jam
        elf imp rat bat tub yak bun fig duke oaf urn mop moon king beard goose toad toe soul"""),
    "adjective": zipf("old fat sad mad wet shy bald odd rude dead holy damp vain sour smug tiny wise ugly humble"),
    "did": zipf("ate bit hid saw met led fed won lost sold woke sued stole slew shot fled"),
    "Do": zipf("Eat Wed Bite Kiss Hide Sue Boil Sell Rob Bury Slay Hug"),
    "whose": zipf("my thy the our his her no yon"),
    "Whose": zipf("My Thy The Our His Her No Yon"),
    "who": zipf("I We Who He She They"),
    "whom": zipf("me thee him us it them"),
    "oath": zipf("Fie Alas Nay Hush Ha Hark O Hey"),
    "consonant": zipf("l f d t r p b g s k v z"),
    "vowel": zipf("a o i e u"),
}


def _rule(expansions):
    """[(probability, parts)]: parts[::2] of an expansion are literal text, parts[1::2] are symbols."""
    total = sum(expansions.values())
    return [(weight / total, re.split(r"\{(\w+)\}", expansion)) for expansion, weight in expansions.items()]


RULES = {symbol: _rule(expansions) for symbol, expansions in GRAMMAR.items()}
CUMULATIVE = {symbol: list(accumulate(p for p, _ in rule)) for symbol, rule in RULES.items()}


def play(seed=0, characters=1_115_394):
    """The first `characters` characters of the play with this seed; the default is tiny Shakespeare's length."""
    written, length = [], 0
    for speech in speeches(backend.random(seed, "play")):
        if length >= characters:
            return "".join(written)[:characters]
        written.append(speech)
        length += len(speech)


def speeches(generator):
    """Yield the play of a random generator, speech by speech, without end."""
    dice = _dice(generator)
    speaker = int(next(dice) * len(CAST))
    while True:
        yield f"{CAST[speaker]}:\n{_write('speech', dice)}\n"
        speaker = (speaker + 1 + int(next(dice) * (len(CAST) - 1))) % len(CAST)  # anyone but the one who just spoke


def _dice(generator):
    """Yield uniform numbers in [0, 1) without end, drawn in blocks, because one call per number is slow."""
    while True:
        yield from generator.random(4096).tolist()


def _write(symbol, dice):
    """Expand a symbol at random, top down."""
    rule = RULES[symbol]
    _, parts = rule[bisect(CUMULATIVE[symbol], next(dice), hi=len(rule) - 1)]
    return "".join(_write(part, dice) if i % 2 else part for i, part in enumerate(parts))


def entropy_per_character():
    """The entropy rate of the play in nats per character, exact but for rounding.

    By the renewal-reward theorem it is the nats of a speech over its characters, both in expectation. The speakers are
    a Markov chain of rate log(cast − 1) (Cover & Thomas, Elements of Information Theory, theorem 4.2.4).
    """
    nats, characters = speech_entropy()
    return (nats + log(len(CAST) - 1)) / characters


def speech_entropy():
    """The nats of a speech, its speaker's name aside, and its characters, both in expectation.

    Expanding symbol i once throws dice worth `nats[i]`, writes `letters[i]` characters and calls for `uses[i, j]`
    symbols j, on average. So the expansions of one speech number  count = one_speech + usesᵀ count.
    """
    index = {symbol: i for i, symbol in enumerate(RULES)}
    nats, letters, uses = np.zeros(len(index)), np.zeros(len(index)), np.zeros((len(index), len(index)))
    for symbol, i in index.items():
        for p, parts in RULES[symbol]:
            nats[i] -= p * log(p)
            letters[i] += p * sum(map(len, parts[::2]))
            for part in parts[1::2]:
                uses[i, index[part]] += p
    one_speech = np.eye(len(index))[index["speech"]]
    count = np.linalg.solve(np.eye(len(index)) - uses.T, one_speech)
    heading = sum(map(len, CAST)) / len(CAST) + len(":\n") + len("\n")  # by symmetry all speak equally often
    return float(count @ nats), float(count @ letters + heading)


def play_nats(text):
    """−log P(text) in nats, for a text of whole speeches from the first on. Raises TokenError for any other text.

    Divided by len(text), this is the loss of a perfect model on this text; `entropy_per_character` is its limit.
    """
    *speeches, rest = text.split("\n\n")
    if rest:
        raise TokenError(f"play: a text of whole speeches ends with an empty line; this one with {rest[-40:]!r}")
    nats, choices, previous = 0.0, len(CAST), None
    for number, speech in enumerate(speeches, start=1):
        name, _, lines = speech.partition(":\n")
        p = probability("speech", lines + "\n") if name in CAST and name != previous else 0
        if p == 0:
            raise TokenError(f"play: the grammar cannot write speech {number}, {speech!r}, after {previous}'s")
        nats += log(choices) - log(p)
        choices, previous = len(CAST) - 1, name
    return nats


def probability(symbol, text):
    """P(symbol becomes text), summed over all ways to get there: the inside algorithm, from left to right."""

    @cache
    def ends(symbol, start):
        """{end: P(symbol becomes text[start:end])}"""
        found = defaultdict(float)
        for p, parts in RULES[symbol]:
            if not text.startswith(parts[0], start):
                continue
            reached = {start + len(parts[0]): p}
            for part, literal in zip(parts[1::2], parts[2::2], strict=True):
                before, reached = reached, defaultdict(float)
                for middle, so_far in before.items():
                    for end, q in ends(part, middle).items():
                        if text.startswith(literal, end):
                            reached[end + len(literal)] += so_far * q
            for end, q in reached.items():
                found[end] += q
        return found

    return ends(symbol, 0).get(len(text), 0.0)
