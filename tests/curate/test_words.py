"""Words for comparisons, their places, and hashes of their n-grams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.curate.cleaning.words import REMEMBERED, _hashes, grams, hashes, places, words

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from(" \n\t.,_-'\xa0\u2028İΣς")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\"Don't,\" she said —\nDON'T!", ["dont", "she", "said", "dont"]),
        ("snake_case _ __x__ 3.14", ["snakecase", "x", "314"]),
        ("naïve Ünïcode “quotes” 東京", ["naïve", "ünïcode", "quotes", "東京"]),
        ("... !? —", []),
        ("हिन्दी की किताब।", ["हिन्दी", "की", "किताब"]),
        ("e\u0301te\u0301, love❤\ufe0f 👍", ["e\u0301te\u0301", "love"]),
        ("\u0301 \u200b x\u0301", ["x\u0301"]),
    ],
)
def test_words_are_lower_case_and_without_punctuation(text, expected):
    assert words(text) == expected


@given(TEXTS)
def test_each_word_has_its_place(text):
    assert [words(text[a:b]) for a, b in places(text)] == [[word] for word in words(text)] or "Σ" in text
    assert len(places(text)) == len(words(text))


def test_a_hash_is_the_same_everywhere():
    assert hashes(["the", "cat", "the"]).tolist() == [3331141520948189790, 3429664268601861939, 3331141520948189790]


def test_hashes_are_right_when_more_words_come_than_are_remembered():
    expected = hashes(["the", "cat"])
    hashes([str(i) for i in range(REMEMBERED + 10)])
    assert len(_hashes) <= REMEMBERED
    assert np.array_equal(hashes(["the", "cat"]), expected)


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 14))
def test_rows_have_one_number_if_they_are_one_row(letters, n):
    numbers = grams(hashes(letters), n).tolist()
    rows = [tuple(letters[i : i + n]) for i in range(len(letters) - n + 1)]
    assert len(numbers) == len(rows)
    assert len(set(zip(rows, numbers, strict=True))) == len(set(rows)) == len(set(numbers))
