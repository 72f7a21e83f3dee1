"""Heuristics that distinguish prose from other web text, with their published thresholds.

A rule returns why a text should be removed, or None: `gopher(text) -> "fewer than 50 words"`. One of them, c4, removes
lines first. The rule about repetitions is in repetition.py. All were made for English web pages: they remove source
code, tables, verse and most texts in other languages, which have other stop words.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tinygrad_lm.curate.cleaning.repetition import repeated_shares, repetition

# Rae et al. 2021, "Scaling language models: methods, analysis & insights from training Gopher", appendix A.1.1
WORDS = 50, 100_000
WORD_LENGTH = 3, 10  # characters per word on average
SYMBOLS = 0.1  # "#" characters, or ellipses, per word
BULLETS = 0.9  # of lines
ELLIPSES = 0.3  # of lines
ALPHABETIC = 0.8  # of words
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
STOP_WORDS_FOUND = 2  # different ones
BULLET = ("•", "‣", "▪", "●", "◦", "*", "-")  # the paper names no characters
ELLIPSIS = ("...", "…")

# Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text transformer", section 2.2
LINE_WORDS = 5
SENTENCES = 3
TERMINAL = (".", "!", "?", '"', "”")
POLICIES = re.compile("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")
CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
SENTENCE_END = re.compile(r"[.!?][\"”')\]]*(?:\s|$)")

# Penedo et al. 2024, "The FineWeb datasets", section 3.6: the three of some fifty statistics that helped training most
PUNCTUATED = 0.12  # of lines
DUPLICATED = 0.1  # of characters
SHORT, SHORT_LINES = 30, 0.67  # characters; of lines
LINE_END = (*TERMINAL, "'", "’", "…", "。", "！", "？")  # so that Chinese lines can end with punctuation


def gopher(text):
    """Why the number, length or kind of words is not that of prose, or None."""
    words = text.split()
    n = len(words)
    if n < WORDS[0]:
        return f"fewer than {WORDS[0]} words"
    if n > WORDS[1]:
        return f"more than {WORDS[1]:,} words"
    if not WORD_LENGTH[0] <= sum(map(len, words)) / n <= WORD_LENGTH[1]:
        return f"mean word length outside {WORD_LENGTH[0]} to {WORD_LENGTH[1]} characters"
    if text.count("#") > SYMBOLS * n or sum(map(text.count, ELLIPSIS)) > SYMBOLS * n:
        return f"more than {SYMBOLS} hash signs or ellipses a word"
    lines = _lines(text)
    if _share(lines, lambda line: line.lstrip().startswith(BULLET)) > BULLETS:
        return f"more than {BULLETS:.0%} of lines begin with a bullet"
    if _share(lines, lambda line: line.endswith(ELLIPSIS)) > ELLIPSES:
        return f"more than {ELLIPSES:.0%} of lines end with an ellipsis"
    # A fast check first: most words have only letters. Borderline texts are checked letter by letter.
    if sum(map(str.isalpha, words)) < ALPHABETIC * n and _share(words, _has_letter) < ALPHABETIC:
        return f"fewer than {ALPHABETIC:.0%} of words have a letter"
    if len(STOP_WORDS.intersection(text.lower().split())) < STOP_WORDS_FOUND:
        return f"fewer than {STOP_WORDS_FOUND} English stop words"
    return None


def c4_lines(text):
    """(the lines that have five words and end like a sentence, the other lines)"""
    kept, dropped = [], []
    for line in CITATION.sub("", text).split("\n"):
        line = line.strip()
        (kept if _is_sentence(line) else dropped).append(line)
    return "\n".join(kept), "\n".join(dropped)


def _is_sentence(line):
    if not line.endswith(TERMINAL) or line.endswith("..."):
        return False
    lower = line.lower()
    return len(line.split(None, LINE_WORDS)) >= LINE_WORDS and "javascript" not in lower and not POLICIES.search(lower)


def c4(text):
    """Why the lines that c4_lines kept are not a page of prose, or None.

    Three of C4's rules are left out: the list of bad words, which removes texts by and about whole groups of people
    (Dodge et al. 2021, "Documenting large webtext corpora"), the language classifier, and the removal of repeated spans
    of three sentences across documents.
    """
    if "{" in text:
        return "a curly bracket"
    if "lorem ipsum" in text.lower():
        return "lorem ipsum"
    if len(SENTENCE_END.findall(text)) < SENTENCES:
        return f"fewer than {SENTENCES} sentences"
    return None


def fineweb(text):
    """Why the lines are not those of running text, or None."""
    lines = _lines(text)
    if _share(lines, lambda line: line.endswith(LINE_END)) <= PUNCTUATED:
        return f"at most {PUNCTUATED:.0%} of lines end with punctuation"
    if repeated_shares(lines)[1] >= DUPLICATED:
        return f"{DUPLICATED:.0%} of characters or more are in repeated lines"
    if _share(lines, lambda line: len(line) < SHORT) >= SHORT_LINES:
        return f"{SHORT_LINES:.0%} of lines or more have fewer than {SHORT} characters"
    return None


@dataclass(frozen=True)
class Rule:
    """judge: text -> why it should be removed, or None; change: text -> (the text to judge and keep, removed lines)"""

    judge: Callable
    change: Callable | None = None


RULES = {"gopher": Rule(gopher), "repetition": Rule(repetition), "c4": Rule(c4, c4_lines), "fineweb": Rule(fineweb)}


def _lines(text):
    return [line for line in text.split("\n") if line.strip()]


def _share(items, test):
    """The share of the items that pass."""
    return sum(map(test, items)) / len(items) if items else 0.0


def _has_letter(word):
    return any(map(str.isalpha, word))
