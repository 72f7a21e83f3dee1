"""The rule about repetitive texts: Rae et al. 2021 (Gopher), appendix A.1.1, table A1."""

import re

import numpy as np

# The largest allowed shares, of characters except for the first.
LINES = {"line": (0.30, 0.20), "paragraph": (0.30, 0.20)}  # (of lines, of characters in them) that occurred before
TOP_GRAMS = {2: 0.20, 3: 0.18, 4: 0.16}  # in the most frequent n-gram
DUPLICATE_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}  # in n-grams that occurred before

PARAGRAPHS = re.compile(r"\n\s*\n")


def repetition(text):
    """Why a text has too many repeated lines, paragraphs or n-grams of words, or None.

    The first of equal passages is not a duplicate. The characters of an n-gram are those of its words, without spaces.
    For DUPLICATE_GRAMS a character counts once, for TOP_GRAMS once per occurrence of the n-gram.
    """
    for kind, parts in (("line", text.split("\n")), ("paragraph", PARAGRAPHS.split(text))):
        most, most_characters = LINES[kind]
        share, characters = repeated_shares([part for part in parts if part.strip()])
        if share > most:
            return f"more than {most:.0%} of {kind}s are repeated"
        if characters > most_characters:
            return f"more than {most_characters:.0%} of characters are in repeated {kind}s"
    return _repeated_words(text.split())


def repeated_shares(parts):
    """(share of the parts that occurred before, share of the characters in these)"""
    total, unique = sum(map(len, parts)), dict.fromkeys(parts)
    if not total:
        return 0.0, 0.0
    return (len(parts) - len(unique)) / len(parts), (total - sum(map(len, unique))) / total


def _repeated_words(words):
    """Check n-grams for n = 2 … 10.

    An n-gram can only repeat if its first n − 1 words do, so from n to n + 1 only the places of repeated n-grams are
    kept; in prose these soon become few. N-grams are numbered 0, 1, …, as words are.
    """
    numbers = dict(zip(dict.fromkeys(words), range(len(words)), strict=False))
    ids = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    ends = np.concatenate([[0], lengths.cumsum()])  # characters before each word
    rows, places = ids, np.arange(len(words))
    for n in range(2, max(DUPLICATE_GRAMS) + 1):
        inside = places + n <= len(words)
        places = places[inside]
        # One number for an (n − 1)-gram and the next word: both are numbered below len(words).
        _, first, rows, counts = np.unique(
            rows[inside] * len(words) + ids[places + n - 1], return_index=True, return_inverse=True, return_counts=True
        )
        again = counts[rows] > 1
        if not again.any():
            return None
        if n in TOP_GRAMS:
            start = places[first]
            most = counts == counts.max()
            characters = (counts * (ends[start + n] - ends[start]))[most].max()
            if characters > TOP_GRAMS[n] * ends[-1]:
                return f"more than {TOP_GRAMS[n]:.0%} of characters are in one {n}-gram"
        else:
            later = np.ones(len(places), bool)
            later[first] = False
            if _covered(places[later], n, lengths) > DUPLICATE_GRAMS[n] * ends[-1]:
                return f"more than {DUPLICATE_GRAMS[n]:.0%} of characters are in repeated {n}-grams"
        places, rows = places[again], rows[again]
    return None


def _covered(starts, n, lengths):
    """The characters of all words that are in an n-gram with one of these starts."""
    edges = np.zeros(len(lengths) + 1, np.int64)
    edges[starts] += 1
    edges[starts + n] -= 1
    return int(lengths[edges[:-1].cumsum() > 0].sum())
