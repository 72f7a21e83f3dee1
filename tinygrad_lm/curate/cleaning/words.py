"""The words of a text for comparisons, and hashes of their n-grams.

Words are those of GPT-3's filter (Brown et al. 2020, appendix C): lower-case, without punctuation, separated by white
space. Combining marks stay, because most vowels of Hindi are marks. In scripts without spaces a line is one long word,
so comparisons of words become comparisons of lines.
"""

import re
import unicodedata
from hashlib import blake2b

import numpy as np

MULTIPLIER = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio, odd, so multiplication by its powers is a bijection
REMEMBERED = 2**16  # cached hashes; most of a text is a few thousand different words


class _Kept(dict):
    """For str.translate: keep letters, digits, white space and combining marks, remove everything else."""

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
    """[(start, end)] of each of words(text) in the text, including punctuation."""
    return [match.span() for match in re.finditer(r"\S+", text) if words(match[0])]


class _Hashes(dict):
    def __missing__(self, word):
        if len(self) >= REMEMBERED:
            self.clear()
        self[word] = hash = blake2b(word.encode(), digest_size=8).digest()
        return hash


_hashes = _Hashes()


def hashes(words):
    """A 64-bit number for each word, uint64 (n,), the same on every machine (unlike Python's hash)."""
    return np.frombuffer(b"".join(map(_hashes.__getitem__, words)), "<u8").astype(np.uint64, copy=False)


def grams(hashes, n):
    """A 64-bit hash of every n-gram: uint64 (words,) -> (words − n + 1,), or (0,) for fewer than n words.

    It is the polynomial Σ hᵢ mⁿ⁻ⁱ modulo 2⁶⁴. The hᵢ are pseudorandom and m is odd, so two different n-grams collide
    about once in 2⁶⁴; the same words in another order, whose differences share factors, once in 2⁵⁹.
    """
    count = max(0, len(hashes) - n + 1)
    total = np.zeros(count, np.uint64)
    for i in range(n):
        total *= np.uint64(MULTIPLIER)
        total += hashes[i : i + count]
    return total
