"""The words of a text as other parts compare them, and hashes of n of them in a row.

A word is what GPT-3's filter calls one (Brown et al. 2020, appendix C): lower-case, without punctuation, between
spaces. The marks that belong to letters stay, for most vowels of Hindi are such. Scripts without spaces have one long
word a line; what is compared by words is then compared by lines.
"""

import re
import unicodedata
from hashlib import blake2b

import numpy as np

MULTIPLIER = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio, odd: a power of it loses no bit of a hash
REMEMBERED = 2**16  # words whose hash is kept; most of a text is a few thousand words


class _Kept(dict):
    """For str.translate: letters, digits, spaces and the marks on letters as they are, all else goes."""

    def __missing__(self, code):
        character = chr(code)
        mark = unicodedata.category(character).startswith("M") and "VARIATION SELECTOR" not in _name(character)
        self[code] = found = code if character.isalnum() or character.isspace() or mark else None
        return found


def _name(character):
    return unicodedata.name(character, "")


_kept = _Kept()


def words(text):
    """The words of a text."""
    found = text.lower().translate(_kept).split()
    return found if text.isascii() else [word for word in found if any(map(str.isalnum, word))]


def places(text):
    """[(start, end)] of each of words(text) in the text, their punctuation included."""
    return [match.span() for match in re.finditer(r"\S+", text) if words(match[0])]


class _Hashes(dict):
    def __missing__(self, word):
        if len(self) >= REMEMBERED:
            self.clear()
        self[word] = hash = blake2b(word.encode(), digest_size=8).digest()
        return hash


_hashes = _Hashes()


def hashes(words):
    """A 64-bit number for each word, uint64 (n,), the same on every machine (Python's own hash is not)."""
    return np.frombuffer(b"".join(map(_hashes.__getitem__, words)), "<u8").astype(np.uint64, copy=False)


def grams(hashes, n):
    """A 64-bit number for every n words in a row: uint64 (words,) -> (words − n + 1,), of fewer words (0,).

    It is the polynomial Σ hᵢ mⁿ⁻ⁱ modulo 2⁶⁴. The hᵢ are as good as random and m is odd, so two different rows get
    the same number about once in 2⁶⁴; the same words in another order, whose differences share factors, once in 2⁵⁹.
    """
    count = max(0, len(hashes) - n + 1)
    total = np.zeros(count, np.uint64)
    for i in range(n):
        total *= np.uint64(MULTIPLIER)
        total += hashes[i : i + count]
    return total
