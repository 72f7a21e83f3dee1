"""Documents that were there before: the same text (exact), or much the same words (fuzzy).

A document's signature is a row of 64-bit keys. It is a duplicate if one of them is known; if not, all become known.
exact  one key: a hash of the text
fuzzy  MinHash with locality-sensitive hashing (Broder 1997, "On the resemblance and containment of documents"): how
       alike two texts are is the Jaccard similarity s of their sets of five words in a row, |A ∩ B| / |A ∪ B|. Number
       all such rows at random; the least number in A and that in B are the same with probability s. With 14 × 8
       numberings, a key is a hash of 8 such minima, so two texts share a given key with probability s⁸, and one of 14
       with 1 − (1 − s⁸)¹⁴: 0.001 for s = 0.3, 0.05 for 0.5, 0.56 for 0.7, 0.92 for 0.8, 0.9996 for 0.9.

These are FineWeb's numbers (Penedo et al. 2024, section 3.4). GPT-3 took the words for the set, with ten numberings
(Brown et al. 2020, appendix A): cheaper, but the words of any two long English texts are much alike.

Of documents that are alike the first one is kept. Those removed leave nothing behind, so a chain of texts, each a
little different from the one before, is not followed from one end to the other.
"""

from functools import cache
from hashlib import blake2b

import numpy as np

from tinygrad_lm.curate.cleaning.words import grams, hashes, words
from tinygrad_lm.errors import DataError

# The kinds that a document of a source leaves and is looked for by, in this order: exact copies are found in all.
SIGNATURE_KINDS = {"none": (), "exact": ("exact",), "fuzzy": ("fuzzy", "exact")}

GRAM = 5
BANDS, ROWS = 14, 8
BLOCK = 1024  # rows that are numbered at once: half a megabyte of numbers, for a book too
FULL = 2 / 3  # the largest part of the table that is in use
GROWTH = 1.5


def signature(kind, text):
    """The keys of a text that went through normalise: bytes, 8 for "exact" and 112 for "fuzzy"."""
    if kind == "exact":
        return blake2b(text.encode(), digest_size=8).digest()
    found = words(text) or [text]  # one without letters and digits is a word
    rows = grams(hashes(found), min(GRAM, len(found)))  # a text of fewer words is one row
    minima = _minhash(rows >> np.uint64(32)).astype("<u4").reshape(BANDS, ROWS)
    return b"".join(
        blake2b(band.tobytes(), digest_size=8, person=b"band %d" % i).digest() for i, band in enumerate(minima)
    )


def _minhash(rows):
    """The least number of the rows under each numbering: uint32 (BANDS · ROWS,)."""
    minhash = _empty().copy()
    for start in range(0, len(rows), BLOCK):
        minhash.update_batch(rows[start : start + BLOCK].tolist())
    return minhash.hashvalues


@cache
def _empty():
    """A MinHash of nothing. Its numberings are drawn once, for that takes longer than a document."""
    try:
        from datasketch import MinHash
    except ImportError:
        raise DataError("deduplicate = \"fuzzy\" needs datasketch: pip install 'tinygrad-lm[data]'") from None
    return MinHash(BANDS * ROWS, seed=1, hashfunc=int, scheme="affine32")


class Duplicates:
    """The keys of all documents so far.

    They lie in one table by open addressing: a key's place is the first free one from key · size / 2⁶⁴ on. Between 4/9
    and 2/3 of the table is in use, so a fuzzy document takes 168 to 252 bytes, 420 while the table grows, and an exact
    one 12 to 18; a Python set of 64-bit numbers takes six times as much. A key that two documents share by chance costs
    the second: one in 10⁹ of a hundred million fuzzy documents.
    """

    def __init__(self):
        self.count = 0
        self.table = np.zeros(1024, np.uint64)  # 0: free

    def seen(self, signature):
        """Is the document of this signature a duplicate? If it is not, it is remembered."""
        keys = np.frombuffer(signature, "<u8").tolist()
        table = memoryview(self.table)  # whose items are Python's integers at once
        if any(table[_place(table, key)] for key in keys):
            return True
        if self.count + len(keys) > FULL * len(table):
            table = memoryview(self._grow())
        for key in keys:
            place = _place(table, key)
            self.count += table[place] == 0  # two bands of a document may have one key
            table[place] = key or 1
        return False

    def _grow(self):
        old, self.table = self.table, np.zeros(int(GROWTH * len(self.table)), np.uint64)
        table = memoryview(self.table)
        for start in range(0, len(old), 2**16):
            for key in old[start : start + 2**16].tolist():
                if key:
                    table[_place(table, key)] = key
        return self.table


def _place(table, key):
    """Where a key is in the table, or the free place where it would be."""
    key = key or 1  # 0 says free
    size = len(table)
    place = key * size >> 64
    while (found := table[place]) and found != key:
        place += 1
        if place == size:
            place = 0
    return place
