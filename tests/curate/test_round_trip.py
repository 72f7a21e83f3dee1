"""Each format returns whatever documents Hypothesis draws for it."""

import json

import pytest
import raw_files
from curate.reading import read_file
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm.curate.readers import wikipedia

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
# The characters of XML 1.0.
XML = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\t\n\r"),
    max_size=200,
)
LONG = st.builds(str.__mul__, XML, st.sampled_from([1, 2, 3000]))  # more than expat hands over at a time
WORDS = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzßéдλ字"), min_size=1, max_size=12)
PARAGRAPH = st.lists(WORDS, min_size=8, max_size=30).map(lambda words: " ".join(words) + ".")
PROSE = st.lists(PARAGRAPH, min_size=1, max_size=4).map("\n\n".join)


def documents(text, least=1):
    return st.lists(text, min_size=least, max_size=6)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
@given(drawn=documents(UNICODE))
@settings(max_examples=30)
def test_json_lines(suffix, tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("x") / f"a.jsonl{suffix}"
    raw_files.write_jsonl(path, drawn)
    assert read_as(path) == drawn
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in drawn)
    raw_files.write_bytes(path, lines.encode())
    assert read_as(path) == drawn


@given(drawn=documents(UNICODE), rows=st.integers(1, 4))
@settings(max_examples=50)
def test_parquet(tmp_path_factory, drawn, rows):
    path = tmp_path_factory.mktemp("x") / "a.parquet"
    raw_files.write_parquet(path, drawn, rows)
    assert read_as(path) == [text.removeprefix("\ufeff") for text in drawn]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@given(drawn=documents(UNICODE))
@settings(max_examples=30)
def test_wet(suffix, tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("x") / f"a.warc.wet{suffix}"
    raw_files.write_wet(path, drawn)
    assert read_as(path) == [text.removeprefix("\ufeff") for text in drawn]


@given(text=UNICODE.filter(lambda text: text.strip("\ufeff")), suffix=st.sampled_from(["", ".gz", ".bz2", ".zst"]))
@settings(max_examples=50)
def test_plain_text(tmp_path_factory, text, suffix):
    path = tmp_path_factory.mktemp("x") / f"a.txt{suffix}"
    raw_files.write_text(path, text)
    assert read_as(path) == [text.removeprefix("\ufeff")]


@given(
    drawn=st.lists(st.tuples(XML, st.builds(str.__mul__, XML, st.sampled_from([1, 2, 3000]))), min_size=1, max_size=5)
)
@settings(max_examples=50)
def test_wikipedia_source(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("x") / "a.xml"
    raw_files.write_dump(path, [(title, 0, text, None) for title, text in drawn])
    assert [record.content[:2] for record in wikipedia.article_records(path)] == drawn


@pytest.mark.parametrize("name", ["a.xml.bz2", "a.warc.gz"])
@given(drawn=documents(PROSE))
@settings(max_examples=30)
def test_prose_within_markup(name, tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("x") / name
    if name == "a.warc.gz":
        raw_files.write_warc(path, drawn)
        assert read_as(path) == drawn
    else:
        raw_files.write_wikipedia(path, drawn)
        assert read_as(path) == [f"Article {i}\n\n{text}" for i, text in enumerate(drawn)]


def read_as(path):
    """The texts of an undamaged file."""
    texts, damaged, error = read_file(path)
    assert (damaged, error) == ([], None)
    return texts
