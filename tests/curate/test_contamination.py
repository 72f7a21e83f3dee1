"""Decontamination: every planted 13-gram is found in any formatting, and nothing else is cut."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
import raw_files
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from small_texts import vocabulary, zipf

from tinygrad_lm.curate.cleaning.contamination import Contamination, evaluation_texts
from tinygrad_lm.curate.cleaning.words import grams, hashes, words
from tinygrad_lm.errors import DataError

VOCABULARY = vocabulary(3000)
rng = np.random.default_rng(0)
EVALUATION = [" ".join(zipf(VOCABULARY, int(rng.integers(5, 60)), rng)) for _ in range(200)]
ROWS = {tuple(text.split()[i : i + 13]) for text in EVALUATION for i in range(len(text.split()) - 12)}
CONTAMINATION = Contamination(EVALUATION)


def contaminated(text):
    found = words(text)
    return [i for i in range(len(found) - 12) if tuple(found[i : i + 13]) in ROWS]


@st.composite
def documents(draw):
    """Texts with 13-grams of evaluations, complete or broken, in capitals, with punctuation, across lines."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    text = zipf(VOCABULARY, draw(st.integers(0, 600)), rng)
    for _ in range(draw(st.integers(0, 12))):
        source = EVALUATION[draw(st.integers(0, len(EVALUATION) - 1))].split()
        start = draw(st.integers(0, len(source)))
        at = draw(st.integers(0, len(text)))
        text[at:at] = source[start : start + draw(st.integers(10, 30))]
    for i in rng.integers(0, max(1, len(text)), len(text) // 2):
        form = rng.integers(6)
        text[i] = (text[i].upper(), text[i].title(), f"“{text[i]},”", f"{text[i]} —", text[i] + "\n\n", f"({text[i]})")[
            form
        ]
    return " ".join(text)


@given(documents())
def test_all_planted_rows_are_found_and_nothing_else_is_cut(text):
    pieces, cut = CONTAMINATION.decontaminate(text)
    found = contaminated(text)
    assert not any(contaminated(piece) for piece in pieces)
    assert bool(cut) == bool(found)
    assert cut or pieces == (text,)
    for passage in cut:
        assert contaminated(passage)
        assert passage in text
    assert sum(len(contaminated(passage)) for passage in cut) == len(found)


@given(documents())
def test_pieces_and_cuts_are_the_document(text):
    pieces, cut = CONTAMINATION.decontaminate(text)
    position, left = 0, [*sorted(pieces + cut, key=text.find)]
    for part in left:
        start = text.find(part, position)
        assert start >= position
        assert start - position < 200 or not pieces  # the piece between them is too short
        position = start + len(part)
    assert all(len(piece) >= 200 for piece in pieces) or not cut


@given(st.lists(st.sampled_from("ab"), min_size=13, max_size=40), st.integers(0, 2**32))
def test_two_words_in_every_order(evaluation, seed):
    """13-grams that overlap and repeat are found, and the same words in another order are not."""
    rows = {tuple(evaluation[i : i + 13]) for i in range(len(evaluation) - 12)}
    text = np.random.default_rng(seed).choice(["a", "b"], 1500).tolist()
    places = [i for i in range(len(text) - 12) if tuple(text[i : i + 13]) in rows]
    assert Contamination([" ".join(evaluation)])._found(" ".join(text)).tolist() == places


ROW = " ".join(f"row{i}" for i in range(13))
ONE = Contamination([ROW])


def test_twelve_words_are_no_hit_and_thirteen_are():
    for text in (ROW.rpartition(" ")[0], ROW.partition(" ")[2], ROW.replace("row6", "raw6"), ROW.replace("6 ", "6 x ")):
        assert ONE.decontaminate(text) == ((text,), ())
    assert ONE.decontaminate(ROW) == ((), (ROW,))


def test_200_characters_go_on_either_side_and_on_to_the_words_ends():
    before, after = "b" * 300 + " ", " " + "a" * 300
    text = before + "x" * 199 + " " + ROW + " " + "y" * 199 + after
    assert ONE.decontaminate(text)[0] == (before, after)
    text = before + "x" * 200 + " " + ROW + " " + "y" * 200 + after  # a word that the margin cuts is removed whole
    assert ONE.decontaminate(text)[0] == (before, after)
    text = before + "w " + "x" * 198 + " " + ROW + " " + "y" * 198 + " z" + after
    assert ONE.decontaminate(text)[0] == (before, after)
    text = before + "w " + "x" * 199 + " " + ROW + " " + "y" * 199 + " z" + after
    assert ONE.decontaminate(text)[0] == (before + "w ", " z" + after)


def test_a_piece_has_200_characters():
    def text(length):
        return "p" * (length - 1) + " " + "x" * 199 + " " + ROW

    assert ONE.decontaminate(text(200))[0] == ("p" * 199 + " ",)
    assert ONE.decontaminate(text(199))[0] == ()


def test_more_than_ten_pieces_are_none():
    passage = " ".join(["x" * 199, ROW, "y" * 199])
    clean = "c" * 250
    assert len(ONE.decontaminate(f" {passage} ".join([clean] * 10))[0]) == 10
    assert ONE.decontaminate(f" {passage} ".join([clean] * 11))[0] == ()
    # Short pieces count towards the limit.
    assert ONE.decontaminate(f" {passage} ".join([*["c"] * 9, clean]))[0] == (" " + clean,)
    assert ONE.decontaminate(f" {passage} ".join([*["c"] * 10, clean]))[0] == ()
    # An empty piece does not count.
    assert len(ONE.decontaminate(f" {passage} {passage} ".join([clean] * 10))[0]) == 10
    # A passage at the beginning has no piece before it.
    assert len(ONE.decontaminate(passage + " " + f" {passage} ".join([clean] * 10))[0]) == 10


def test_passages_that_meet_are_one():
    text = "b" * 300 + " " + " ".join([ROW] * 5) + " " + "a" * 300
    assert len(ONE.decontaminate(text)[1]) == 1


def test_without_evaluation_texts_nothing_is_cut():
    for nothing in (Contamination([]), Contamination(["too short"])):
        assert nothing.decontaminate(ROW) == ((ROW,), ())


def test_24_bytes_a_row():
    for found in (CONTAMINATION, Contamination(EVALUATION * 3)):
        assert found.rows.nbytes == 8 * len(ROWS)
    many = Contamination([" ".join(map(str, range(20_000)))])
    assert 8 * len(many.rows) <= many.filter.nbytes <= 16 * len(many.rows)


def test_a_row_above_all_of_the_evaluations_is_no_hit():
    row = grams(hashes(words(ROW)), 13)
    found = Contamination([])
    found.filter[:] = True
    for rows, hit in ((row - np.uint64(1), False), (row + np.uint64(1), False), (row, True)):
        found.rows = rows
        assert bool(found.decontaminate(ROW)[1]) == hit


def test_evaluation_texts_are_normalised():
    row = ROW.replace("row3", "rose\u0301")
    assert Contamination([row]).decontaminate(ROW.replace("row3", "ros\xe9"))[0] == ()
    assert Contamination(["\ud800" + row]).rows.size == 1


# Files of evaluations


def test_each_string_of_a_file_is_a_text(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / name

    objects = [{"ctx": "a b", "endings": ["c", "d"], "n": 1}, {"question": {"stem": "e", "choices": [{"text": "f"}]}}]
    lines = "\n".join(map(json.dumps, objects)).encode()
    expected = ["a b", "c", "d", "e", "f"]
    for name, content in (
        ("a.jsonl", lines + b"\n\n"),
        ("b.jsonl.gz", lines),
        ("c.json", json.dumps(objects, indent=1).encode()),
        ("d.JSON", json.dumps(objects).encode()),
        ("e.csv", b'a b,"c",d\r\ne,f\r\n'),
    ):
        assert sorted(evaluation_texts([write(name, content)])) == expected
    for name, content in (("g.jsonl", lines), ("g.ndjson", lines), ("g.json", json.dumps(objects).encode()),
                          ("g.csv", b"a b,c\nd,e,f"), ("g.tsv", b"a b\tc\nd\te\tf")):  # fmt: skip
        for suffix in (".gz", ".bz2", ".zst"):
            raw_files.write_bytes(tmp_path / f"{name}{suffix}", content)
            assert sorted(evaluation_texts([tmp_path / f"{name}{suffix}"])) == expected, name + suffix
    rows = [dict.fromkeys(objects[1]) | objects[0], dict.fromkeys(objects[0]) | objects[1]]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "h.parquet")
    assert sorted(evaluation_texts([tmp_path / "h.parquet"])) == expected
    for name in ("f.txt", "wiki.test.raw"):
        assert list(evaluation_texts([write(name, b"all of\nit")])) == ["all of\nit"]
    both = evaluation_texts([tmp_path / "a.jsonl", str(tmp_path / "f.txt")])
    assert sorted(both) == sorted([*expected, "all of\nit"])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b'{"a": 1}\n{"b": \n', r"a\.jsonl: line 2: expected JSON \(Expecting value at column"),
        ("a.json", b"[1, 2", r"a\.json: "),
        ("a.json", b"[" * 100_000, r"a\.json: "),
        ("a.jsonl", b'{"a": "\xff"}', r"a\.jsonl: .*0xff"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], r"a\.jsonl\.gz: "),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:10] + b"\xff" * 20, r"a\.jsonl\.gz: "),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz: "),
        ("a.csv", b'"' + b"x" * 200_000, r"a\.csv: field larger"),
        ("missing/a.csv", None, r"a\.csv: .*No such file"),
        ("missing/a.txt", None, r"a\.txt: cannot be read: No such file"),
        ("missing/a.raw", None, r"a\.raw: cannot be read: No such file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        list(evaluation_texts([tmp_path / name]))
