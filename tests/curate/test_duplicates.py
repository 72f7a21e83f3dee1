"""De-duplication: the table is a set, signatures are stable, and planted near-duplicates are found as often as the
S-curve predicts."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_texts import vocabulary, zipf

from tinygrad_lm.curate.cleaning import duplicates
from tinygrad_lm.curate.cleaning.duplicates import BANDS, GRAM, ROWS, Duplicates, signature
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.errors import DataError

VOCABULARY = vocabulary(5000)

# Signatures


@given(st.text(st.characters()))
def test_a_signature_has_one_length(text):
    text = normalise(text)
    assert len(signature("exact", text)) == 8
    assert len(signature("fuzzy", text)) == 8 * BANDS


@pytest.mark.slow
def test_signatures_are_the_same_everywhere():
    """If they changed, interrupted runs could not be resumed."""
    text = "The quick brown fox jumps over the lazy dog, and over the dog again."
    assert signature("exact", text).hex() == "61694bf2d76db363"
    assert signature("fuzzy", text)[:16].hex() == "faf6d775bbe1c482b9d0edb4a8b88aa5"
    program = f"from tinygrad_lm.curate.cleaning.duplicates import signature; print(signature('fuzzy', {text!r}).hex())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == signature("fuzzy", text).hex()


def test_exact_is_to_the_letter_and_fuzzy_is_not():
    a, b = "One two three four, five six!", "one two THREE four five six"
    assert signature("exact", a) != signature("exact", b)
    assert signature("fuzzy", a) == signature("fuzzy", b)


@pytest.mark.parametrize(("a", "b"), [("", "a"), ("a", "b"), ("a b c d", "a b d c"), ("a b c d e", "a b c d")])
def test_short_texts_differ(a, b):
    assert not set(keys(a)) & set(keys(b))
    assert keys(a) == keys(a.upper())


def keys(text):
    return np.frombuffer(signature("fuzzy", text), "<u8").tolist()


def test_the_keys_of_different_bands_differ():
    """Also if the minima are equal, as for a text of one n-gram under equal numberings."""
    assert len(set(keys("a b c d e"))) == BANDS


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    duplicates._empty.cache_clear()
    with pytest.raises(
        DataError, match=r"needs the library datasketch, which is not installed; run: pip install 'tinygrad-lm\[data\]'"
    ):
        signature("fuzzy", "a")


def test_a_long_text_takes_little_memory_and_has_the_signature_it_would_have_in_one_block(monkeypatch):
    text = " ".join(map(str, range(50_000)))
    tracemalloc.start()
    found = signature("fuzzy", text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # in one block 50,000 × 112 × 4 bytes = 22 MB, more than once
    monkeypatch.setattr(duplicates, "BLOCK", 10**6)
    assert signature("fuzzy", text) == found


# The table


def pack(*keys):
    return np.array(keys, "<u8").tobytes()


@pytest.mark.slow
def test_the_table_is_a_set():
    """Against Python's set, through several growths; many keys collide, also at the last place."""
    rng = np.random.default_rng(0)
    pool = np.concatenate(
        [
            rng.integers(0, 2**64, 70_000, np.uint64),
            np.arange(2**64 - 400, 2**64, dtype=np.uint64),
            np.arange(1, 400, dtype=np.uint64),
        ]
    )
    found, known = Duplicates(), set()
    for key in [*rng.permutation(pool).tolist(), *rng.choice(pool, 5000).tolist()]:
        assert found.seen(pack(key)) == (key in known)
        known.add(key)
    assert found.count == len(known)
    assert found.count <= duplicates.FULL * len(found.table) < 2 * found.count
    assert len(known) > 2**16  # the table has grown from more places than are looked through at once


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 3), max_size=60))
def test_one_known_key_is_enough_and_a_duplicate_leaves_none(documents):
    found, known = Duplicates(), set()
    for document in documents:
        document = [key * 2**57 + 2**64 - 41 * 2**57 for key in document]  # from the middle to the end of the table
        duplicate = not known.isdisjoint(document)
        assert found.seen(pack(*document)) == duplicate
        if not duplicate:
            known.update(document)
    assert found.count == len(known)


def test_a_key_of_zero_is_a_key():
    found = Duplicates()
    assert [found.seen(pack(0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("kind", ["exact", "fuzzy"])
def test_it_is_rebuilt_from_the_signatures_of_what_was_kept(kind):
    rng = np.random.default_rng(1)
    texts = [" ".join(zipf(VOCABULARY[:3], 6, rng)) for _ in range(600)]
    signatures = [signature(kind, text) for text in texts]
    whole = Duplicates()
    expected = [whole.seen(s) for s in signatures]
    assert 0.2 < np.mean(expected) < 0.9
    again = Duplicates()
    assert not any(again.seen(s) for s, duplicate in zip(signatures[:300], expected, strict=False) if not duplicate)
    assert [again.seen(s) for s in signatures[300:]] == expected[300:]


def test_a_document_takes_little_memory():
    rng = np.random.default_rng(2)
    for size, most in ((8 * BANDS, 252), (8, 18)):
        found = Duplicates()
        for i in range(1, 5001):
            found.seen(rng.bytes(size))
            if i > 1000:
                assert found.table.nbytes <= most * i + 1


# Planted near-duplicates


def jaccard(a, b):
    a, b = ({tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)} for words in (a, b))
    return len(a & b) / len(a | b)


@pytest.fixture(scope="module")
def planted():
    """Originals, a copy of each with some words replaced, and their similarities."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(900):
        words = zipf(VOCABULARY, int(rng.integers(60, 300)), rng)
        changed = rng.random(len(words)) < (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)[i % 6]
        copy = [str(rng.integers(10**9)) if c else word for word, c in zip(words, changed, strict=True)]
        rows.append((" ".join(words), " ".join(copy), jaccard(words, copy)))
    return rows


@pytest.mark.slow
def test_near_duplicates_are_found_as_often_as_the_curve_says(planted):
    """Each is found with probability q = 1 − (1 − sʳ)ᵇ, so of many about Σ q, within a few √Σ q (1 − q)."""
    found = Duplicates()
    assert not any(found.seen(signature("fuzzy", text)) for text, _, _ in planted)  # unrelated texts: precision 1
    hits = np.array([found.seen(signature("fuzzy", copy)) for _, copy, _ in planted])
    s = np.array([s for _, _, s in planted])
    q = 1 - (1 - s**ROWS) ** BANDS
    for low, high in ((0, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1), (1, 2)):
        here = (s >= low) & (s < high)
        assert here.sum() > 40
        assert abs(hits[here].sum() - q[here].sum()) <= 4 * np.sqrt((q * (1 - q))[here].sum())
    assert hits[s >= 0.9].mean() > 0.99  # recall of very similar texts
    assert hits[s < 0.4].mean() < 0.05


def test_exact_finds_equal_texts_only(planted):
    found = Duplicates()
    assert not any(found.seen(signature("exact", text)) for text, _, _ in planted)
    assert [found.seen(signature("exact", copy)) for _, copy, _ in planted] == [s == 1 for _, _, s in planted]


def test_texts_without_words_are_alike_only_if_they_are_the_same():
    stars, dashes = (signature("fuzzy", text) for text in ("* * *", "— — —"))
    assert stars == signature("fuzzy", "* * *")
    assert not {stars[i : i + 8] for i in range(0, 112, 8)} & {dashes[i : i + 8] for i in range(0, 112, 8)}


def test_texts_that_differ_in_their_vowels_are_not_alike():
    one, two = (signature("fuzzy", text) for text in ("की कि कु", "का के को"))
    assert one != two
