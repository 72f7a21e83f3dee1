"""Text to ids and back: nothing is lost or guessed, and what cannot be encoded is refused by name."""

import json
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.corpus import split
from tinygrad_lm.data.tokenizers.tokenizer import (
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    Tokenizer,
    make_tokenizer,
    tokenizer_from_dict,
)
from tinygrad_lm.errors import ConfigError, DataError, TokenError

FRENCH = "Voilà, l'été — “déjà” 🦢!"


@pytest.fixture(params=["char", "byte", "gpt2"])
def tokenizer(request):
    return request.getfixturevalue("gpt2") if request.param == "gpt2" else make_tokenizer(request.param, FRENCH)


def check_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.stream(ids)) == text
    assert tokenizer.decode(ids.tolist()) == text


# There and back


@given(st.text(min_size=1))
def test_round_trip_of_characters(text):
    tokenizer = CharTokenizer.from_text(text)
    check_round_trip(tokenizer, text)
    check_round_trip(tokenizer, text[::-1] + text)
    check_round_trip(tokenizer, "")


@given(st.text())
def test_round_trip_of_bytes(text):
    check_round_trip(ByteTokenizer(), text)


@given(text=st.text())
def test_round_trip_of_gpt2(gpt2, text):
    check_round_trip(gpt2, text)


@given(st.text(min_size=1))
def test_a_character_is_its_place_among_the_sorted_ones(text):
    order = sorted(set(text))
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.vocab_size == len(order)
    assert tokenizer.encode(text).tolist() == [order.index(c) for c in text]


@given(st.text())
def test_a_byte_is_its_own_id(text):
    assert ByteTokenizer().vocab_size == 256
    assert ByteTokenizer().encode(text).tolist() == list(text.encode())


def test_gpt2_knows_its_tokens(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.encode("Hello, I'm a language model,").tolist() == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    assert gpt2.decode([50256]) == "<|endoftext|>"


def test_gpt2_reads_its_end_of_text_as_ordinary_text(gpt2):
    check_round_trip(gpt2, "one<|endoftext|>two")
    assert 50256 not in gpt2.encode("one<|endoftext|>two")


def test_gpt2_tokens_of_tiny_shakespeare(gpt2, shakespeare):
    assert [len(gpt2.encode(part)) for part in split(shakespeare.read_text())] == [301_966, 36_059]


# Bytes that are not text


@given(st.binary())
def test_any_bytes_decode_as_python_decodes_them(data):
    expected = data.decode("utf-8", "replace")
    assert ByteTokenizer().decode(list(data)) == expected
    assert "".join(ByteTokenizer().stream(iter(data))) == expected


@given(ids=st.lists(st.integers(0, 50256)))
def test_any_gpt2_tokens_decode_as_tiktoken_decodes_them(gpt2, ids):
    assert gpt2.decode(ids) == "".join(gpt2.stream(ids)) == gpt2._bpe.decode(ids)


@given(st.text())
def test_a_stream_yields_each_character_when_its_last_byte_is_there(text):
    taken = []

    def ids():
        for b in text.encode():
            taken.append(b)
            yield b

    for i, c in enumerate(ByteTokenizer().stream(ids())):
        assert c == text[i]
        assert bytes(taken) == text[: i + 1].encode()


# What cannot be said


@given(st.text(min_size=1), st.text(min_size=1))
def test_the_first_unknown_character_is_named(known, text):
    tokenizer = CharTokenizer.from_text(known)
    unknown = [i for i, c in enumerate(text) if c not in known]
    if not unknown:
        return check_round_trip(tokenizer, text)
    with pytest.raises(TokenError) as caught:
        tokenizer.encode(text)
    assert f"the first, {text[unknown[0]]!r}, is at position {unknown[0]:,}\n" in str(caught.value)


def test_the_message_about_unknown_characters():
    with pytest.raises(TokenError) as caught:
        CharTokenizer.from_text("hello world").encode("hello, World")
    assert str(caught.value).splitlines() == [
        "char tokenizer: the vocabulary lacks 2 characters: ',W'; the first, ',', is at position 5",
        "  vocabulary : 8 characters: ' dehlorw'",
        "  hint       : remove them, or train with tokenizer byte, which can express any text",
    ]


def test_a_vocabulary_of_thousands_is_not_printed_whole():
    everything = "".join(map(chr, range(0x4E00, 0x9FFF)))
    with pytest.raises(TokenError) as caught:
        CharTokenizer.from_text(everything).encode("a")
    assert len(str(caught.value)) < 500
    assert "20991 characters" in str(caught.value)


@pytest.mark.parametrize("stray", [-1, "vocab_size", 2**31])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer, stray):
    stray = tokenizer.vocab_size if stray == "vocab_size" else stray
    for ids in ([0, stray], np.array([stray])):
        with pytest.raises(TokenError, match=f"id {stray} is outside its vocabulary, 0 to {tokenizer.vocab_size - 1}"):
            tokenizer.decode(ids)
        with pytest.raises(TokenError):
            list(tokenizer.stream(ids))


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(TokenError, match="position 2"):
        tokenizer.encode("dé\udcff")
    with pytest.raises(TokenError, match="position 2"):
        CharTokenizer.from_text("dé\udcff")


def test_an_empty_text_makes_no_vocabulary():
    with pytest.raises(TokenError, match="expected a text with characters, found an empty one"):
        CharTokenizer.from_text("")


# Names and descriptions


def test_a_tokenizer_has_its_name(tokenizer):
    types = {"char": CharTokenizer, "byte": ByteTokenizer, "gpt2": GPT2Tokenizer}
    assert type(tokenizer) is types[tokenizer.name]
    check_round_trip(tokenizer, FRENCH)


@pytest.mark.parametrize("name", ["bpe", "", None])
def test_another_name_is_refused(name):
    with pytest.raises(ConfigError, match="expected char, byte or gpt2"):
        make_tokenizer(name, "text")


def test_a_tokenizer_survives_json(tokenizer):
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert type(again) is type(tokenizer)
    assert again.vocabulary == tokenizer.vocabulary
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(FRENCH).tolist() == tokenizer.encode(FRENCH).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"characters": "abd"},
        {"characters": "abcd"},
        {"fingerprint": "0" * 64},
        {"fingerprint": None},
        {"name": "byte"},
        {"name": "word"},
    ],
)
def test_a_changed_description_is_refused(change):
    with pytest.raises(ConfigError):
        tokenizer_from_dict(CharTokenizer.from_text("abc").to_dict() | change)


@given(st.lists(st.binary(max_size=3), max_size=5), st.lists(st.binary(max_size=3), max_size=5))
def test_fingerprints_are_equal_just_when_vocabularies_are(a, b):
    assert (Tokenizer(a).fingerprint == Tokenizer(b).fingerprint) == (a == b)


def test_fingerprints_see_where_pieces_end_and_in_which_order_they_come():
    vocabularies = [[b"ab", b"c"], [b"a", b"bc"], [b"c", b"ab"], [b"abc"], [b"ab", b"c", b""]]
    assert len({Tokenizer(v).fingerprint for v in vocabularies}) == len(vocabularies)


# GPT-2 without its files


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def refuse(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


def check_message(*fragments):
    with pytest.raises(DataError) as caught:
        GPT2Tokenizer()
    for fragment in (*fragments, "vocab.bpe and encoder.json", "TIKTOKEN_CACHE_DIR", "tokenizer char or byte"):
        assert fragment in str(caught.value)


def test_without_its_files_gpt2_says_which_and_what_else_would_do(offline):
    check_message("is missing, and the download of", "vocab.bpe failed", "Name or service not known")


def test_a_damaged_file_of_gpt2_is_noticed(offline):
    (offline / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee").write_bytes(b"#version: 0.2\n")
    check_message("is damaged, and the download of")


def test_gpt2_without_tiktoken(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    check_message("pip install tiktoken")
