"""Normalisation: one form for equal texts, and idempotent."""

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from small_texts import ANY_TEXT

from tinygrad_lm.curate.cleaning.normalise import normalise


@given(ANY_TEXT)
def test_doing_it_again_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@given(ANY_TEXT)
def test_what_comes_out_is_clean(text):
    text = normalise(text)
    text.encode()  # no lone surrogates
    assert unicodedata.is_normalized("NFC", text)
    assert {c for c in text if unicodedata.category(c) == "Cc" or c == "\ufeff"} <= {"\n", "\t"}
    assert all(line == line.rstrip() for line in text.split("\n"))
    assert not text.startswith("\n")


@given(ANY_TEXT)
def test_all_else_stays(text):
    def visible(text):
        return Counter(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c)[0] in "LMNPS")

    assert visible(normalise(text)) == visible(re.sub("[\ud800-\udfff]", "\ufffd", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\xe9"),
        ("e\x00\u0301", "\xe9"),  # the accent joins its letter when the character between them is removed
        ("one\r\ntwo\rthree\x85four\u2028five\fsix", "one\ntwo\nthree\nfour\nfive\nsix"),
        ("\ufeffa\x07b\x1fc\x9fd", "abcd"),
        ("a \t\nb\xa0 \x00\n", "a\nb"),
        ("\tindented\tstays", "\tindented\tstays"),
        ("\n\n  two\n\n\nparagraphs\n\n", "  two\n\n\nparagraphs"),
        ("half \ud83d a pair", "half \ufffd a pair"),
        ("", ""),
        (" \x00\n", ""),
    ],
)
def test_examples(text, expected):
    assert normalise(text) == expected
