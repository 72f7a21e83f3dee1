"""Learning byte pair encoding: the same merges as by counting again after each, and as Hugging Face's library."""

import tracemalloc
from collections import Counter
from itertools import islice

import pytest
import regex
from data.bpe_oracle import few, library, merges_of, recounted, texts
from hypothesis import assume, given
from hypothesis import strategies as st

from tinygrad_lm.data.tokenizers.bpe import ALPHABET, count_words, learn_merges, split_text
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import PATTERN
from tinygrad_lm.errors import TokenError

WORDS = regex.compile(PATTERN)

# The same merges


@given(text=texts)
def test_merges_are_those_of_counting_anew_after_each(text):
    counts = count_words([text])
    assert list(learn_merges(counts)) == list(recounted(counts))


@given(text=texts, merges=st.integers(0, 100))
def test_merges_are_those_of_tokenizers(text, merges):
    assert list(islice(learn_merges(count_words([text])), merges)) == merges_of(library([text], merges))


@pytest.mark.slow
def test_merges_of_tiny_shakespeare_are_those_of_tokenizers(shakespeare):
    text = shakespeare.read_text()
    found = list(islice(learn_merges(count_words([text])), 1024))
    assert len(found) == 1024
    assert found == merges_of(library([text], 1024))


@given(text=texts, data=st.data())
def test_the_order_of_words_does_not_matter(text, data):
    counts = count_words([text])
    shuffled = data.draw(st.permutations(list(counts.items())))
    assert list(learn_merges(dict(shuffled))) == list(learn_merges(counts))


def test_of_equals_the_lower_ids_are_first():
    """Ids are in the order of GPT-2, in which a space comes after all letters."""
    assert ALPHABET.index(b" ") > ALPHABET.index(b"z")
    assert list(islice(learn_merges({"yb": 1, " a": 1, "xc": 1, "xb": 1}), 4)) == [
        (b"x", b"b"), (b"x", b"c"), (b"y", b"b"), (b" ", b"a"),
    ]  # fmt: skip


def test_overlapping_occurrences_count():
    assert next(learn_merges({"aaa": 2, "bc": 3})) == (b"a", b"a")
    assert next(learn_merges({"aaa": 1, "bc": 3})) == (b"b", b"c")


def test_a_pair_that_lost_occurrences_waits_for_its_turn():
    """Merging "ab" leaves 2 of the 5 "bc"."""
    merges = list(learn_merges({"abc": 3, "ab": 4, "bc": 2, "xy": 1}))
    assert merges == [(b"a", b"b"), (b"ab", b"c"), (b"b", b"c"), (b"x", b"y")]


def test_when_every_word_is_one_token_no_pair_is_left():
    assert list(learn_merges({"abab": 1})) == [(b"a", b"b"), (b"ab", b"ab")]
    assert list(learn_merges({"a": 5})) == list(learn_merges({})) == []


@pytest.mark.slow
def test_a_long_word_is_no_trouble():
    """Only its occurrences of the pair are visited, not all its pairs."""
    assert [len(left + right) for left, right in learn_merges({"ab" * 2**17: 1})] == [2 ** (i + 1) for i in range(18)]
    assert len(list(islice(learn_merges({"".join(map(chr, range(0x4E00, 0x9000))) * 3: 1}), 2000))) == 2000


# Words


@given(text=texts, size=st.integers(0, 20))
def test_a_text_in_pieces_has_the_words_of_the_whole(text, size):
    parts = list(split_text(text, size))
    assert "".join(parts) == text
    assert [word for part in parts for word in WORDS.findall(part)] == WORDS.findall(text)
    assert all(len(part) >= max(size, 1) for part in parts[:-1])


@given(text=few)
def test_pieces_end_at_the_first_place_where_they_can(text):
    assume(text)
    for part in split_text(text, 0):
        assert len(regex.findall(r"\S(?=\s)", part)) == 0  # else it could have ended there


@given(st.lists(texts, max_size=4))
def test_words_of_several_texts_are_those_of_each(several):
    assert count_words(iter(several)) == Counter(word for text in several for word in WORDS.findall(text))


def test_a_long_text_takes_little_memory():
    text = "".join(f"{c * 23} " for c in "abcdefghij") * 10_000  # 2.4 MB; a list of its words would take 8
    count_words(["one"])  # loads what it needs
    tracemalloc.start()
    try:
        counts = count_words([text])
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    assert counts == {" " + c * 23: 10_000 for c in "bcdefghij"} | {"a" * 23: 1, " " + "a" * 23: 9_999, " ": 1}


@pytest.mark.slow
def test_a_stream_of_texts_takes_the_memory_of_one():
    count_words(["one"])  # loads what it needs
    tracemalloc.start()
    try:
        counts = count_words(f"{'word' * 10}{i} " * 4_000 for i in range(30))  # 5 MB together
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()
    assert counts["word" * 10] == 30
    assert counts[" " + "word" * 10] == 30 * 3_999
    assert counts["19"] == 4_000


def test_half_a_surrogate_pair_is_refused():
    """So bytes that were not UTF-8 and were read with "surrogateescape" are not learnt as something else."""
    with pytest.raises(TokenError, match="position 2"):
        count_words(["good", b"d\xc3\xa9\xff".decode("utf-8", "surrogateescape")])
