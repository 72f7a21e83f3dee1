"""Find duplicate documents: the same text (exact) or nearly the same words (fuzzy).

A document's signature is a sequence of 64-bit keys. It is a duplicate if one of them is known; otherwise all are added.
exact  one key: a hash of the text
fuzzy  MinHash with locality-sensitive hashing (Broder 1997, "On the resemblance and containment of documents"): how
       alike two texts are is the Jaccard similarity s of their sets of 5-grams of words, |A ∩ B| / |A ∪ B|. Number all
       5-grams at random; the minima of A and B are equal with probability s. With 14 × 8 numberings, a key is a hash of
       8 such minima, so two texts share a given key with probability s⁸, and one of 14 with 1 − (1 − s⁸)¹⁴: 0.001 for
       s = 0.3, 0.05 for 0.5, 0.56 for 0.7, 0.92 for 0.8, 0.9996 for 0.9.

These are FineWeb's numbers (Penedo et al. 2024, section 3.4). GPT-3 used sets of words and ten numberings (Brown et al.
2020, appendix A): cheaper, but any two long English texts have similar sets of words.

Of similar documents the first is kept. The keys of removed documents are not stored, so a chain of texts, each slightly
different from the one before, is not followed to its end.
"""

from functools import cache
from hashlib import blake2b

import numpy as np

from tinygrad_lm.curate.cleaning.words import grams, hashes, words
from tinygrad_lm.curate.readers.record import require_library

# Which signatures are stored and looked up for each setting, in this order; exact copies are found in both.
SIGNATURE_KINDS = {"none": (), "exact": ("exact",), "fuzzy": ("fuzzy", "exact")}

GRAM = 5
BANDS, ROWS = 14, 8
BLOCK = 1024  # 5-grams that are hashed at once, in half a megabyte
FULL = 2 / 3  # the largest load of the table
GROWTH = 1.5


def signature(kind, text):
    """The keys of a normalised text: bytes, 8 for "exact" and 112 for "fuzzy"."""
    if kind == "exact":
        return blake2b(text.encode(), digest_size=8).digest()
    found = words(text) or [text]  # a text without letters and digits counts as one word
    rows = grams(hashes(found), min(GRAM, len(found)))  # a text of fewer words is one n-gram
    minima = _minhash(rows >> np.uint64(32)).astype("<u4").reshape(BANDS, ROWS)
    return b"".join(
        blake2b(band.tobytes(), digest_size=8, person=b"band %d" % i).digest() for i, band in enumerate(minima)
    )


def _minhash(rows):
    """The minimum over the n-grams under each numbering: uint32 (BANDS · ROWS,)."""
    minhash = _empty().copy()
    for start in range(0, len(rows), BLOCK):
        minhash.update_batch(rows[start : start + BLOCK].tolist())
    return minhash.hashvalues


@cache
def _empty():
    """An empty MinHash. Its numberings are drawn once, because that takes longer than a document."""
    require_library("datasketch", 'deduplicate = "fuzzy"')
    from datasketch import MinHash

    return MinHash(BANDS * ROWS, seed=1, hashfunc=int, scheme="affine32")


class Duplicates:
    """The keys of all documents so far.

    A hash table with open addressing: a key's place is the first free one from key · size / 2⁶⁴ on. Its load is 4/9 to
    2/3, so a fuzzy document takes 168 to 252 bytes, 420 while the table grows, and an exact one 12 to 18; a Python set
    of 64-bit numbers takes six times as much. A chance collision of keys removes a document: one in 10⁹ of a hundred
    million fuzzy documents.
    """

    def __init__(self):
        self.count = 0
        self.table = np.zeros(1024, np.uint64)  # 0: free

    def seen(self, signature):
        """Whether a document with this signature is a duplicate; if not, add its keys."""
        keys = np.frombuffer(signature, "<u8").tolist()
        table = memoryview(self.table)  # its items are Python integers
        if any(table[_place(table, key)] for key in keys):
            return True
        if self.count + len(keys) > FULL * len(table):
            table = memoryview(self._grow())
        for key in keys:
            place = _place(table, key)
            self.count += table[place] == 0  # two bands of a document may have the same key
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
    """The place of a key in the table, or the free place for it."""
    key = key or 1  # 0 marks a free place
    size = len(table)
    place = key * size >> 64
    while (found := table[place]) and found != key:
        place += 1
        if place == size:
            place = 0
    return place
