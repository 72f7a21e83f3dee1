"""Existing token files as a source, and inputs that are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curate.preparing import damage, edit
from small_mixture import (
    Inline,
    contents,
    line_records,
    line_text,
    prepare_inline,
    tiny_tokenizer,
    tokens_in,
    write_mixture,
)

from tinygrad_lm.curate import prepare as module
from tinygrad_lm.curate.pipeline import inputs
from tinygrad_lm.curate.readers.formats import FORMATS
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.errors import ConfigError, DataError

# ---- token files that are there already


def test_token_files_are_listed_where_they_lie(mixture, tmp_path):
    first = prepare_inline(mixture, tmp_path / "first")
    edit(
        mixture,
        (
            'files = ["web/*.lines"]',
            'shards = ["../first/web/train*.bin"]\nvalidation_shards = ["../first/web/val*.bin"]',
        ),
    )
    out = prepare_inline(mixture, tmp_path / "second")
    was, now = (json.loads((folder / "manifest.json").read_bytes())["sources"]["web"] for folder in (first, out))
    assert not (out / "web").exists()
    for split in ("train", "val"):
        for key in ("documents", "tokens", "bytes"):
            assert now[split][key] == was[split][key]
        for old, new in zip(was[split]["shards"], now[split]["shards"], strict=True):
            assert (out / new["file"]).resolve() == (first / old["file"]).resolve()
            assert (new["tokens"], new["sha256"]) == (old["tokens"], old["sha256"])


def with_ids(content, *ids):
    content[-2 * len(ids) :] = np.array(ids, "<u2").tobytes()
    return content


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c[:-2], "its header says"),
        (lambda c: c[:-1], "its header says"),
        (lambda c: c + b"\0", "its header says"),
        (lambda c: c[:100], "the file is truncated"),
        (
            lambda c: b"\0" * 1024 + c[1024:],
            "it is damaged, or not a token file .nanoGPT's train.bin has no header.: remove it from the list, or",
        ),
        (lambda c: c[:4] + b"\2" + c[5:], "expected magic number and version"),
        (lambda c: c[:8] + b"\xff\xff\xff\xff" + c[12:], "its header says -1"),
        (lambda c: with_ids(c, 263), "is 263, expected ids below 263"),
        (lambda c: with_ids(c, 65_535, 7), "is 65535, expected ids below 263"),
    ],
    ids=["truncated", "odd", "longer", "no header", "no magic", "version", "negative", "id", "large id"],
)
def test_a_damaged_token_file_stops_with_its_name(mixture, tmp_path, change, complaint):
    first = prepare_inline(mixture, tmp_path / "first")
    damage(first / "web" / "train_000000.bin", change)
    edit(mixture, ('files = ["web/*.lines"]', 'shards = ["../first/web/train*.bin"]'))
    with pytest.raises(DataError, match=complaint) as caught:
        prepare_inline(mixture, tmp_path / "second")
    assert "train_000000.bin" in str(caught.value)
    assert not (tmp_path / "second" / "manifest.json").exists()


def test_token_files_without_a_token_are_no_source(mixture, tmp_path):
    first = prepare_inline(mixture, tmp_path / "first")
    damage(first / "web" / "train_000000.bin", lambda c: c[:8] + bytes(4) + c[12:1024])
    edit(mixture, ('files = ["web/*.lines"]', 'shards = ["../first/web/train*.bin"]'))
    with pytest.raises(DataError, match="source web: its token files contain no training token"):
        prepare_inline(mixture, tmp_path / "second")


# ---- what is refused


def test_no_match_and_the_same_file_twice_are_told_in_one_message(mixture, tmp_path):
    edit(
        mixture,
        ('files = ["books/*.lines"]', 'files = ["books/*.lines", "books/a*", "nothing/*"]'),
        ('files = ["more/*.lines"]', 'files = ["more/*.lines", "web/a.lines"]'),
    )
    with pytest.raises(DataError) as caught:
        prepare_inline(mixture, tmp_path / "out")
    message = str(caught.value)
    assert "3 problems" in message
    assert (
        "source books: books/a.lines would be read twice; it is also books/a.lines in files of source books" in message
    )
    assert "source books: no file matches 'nothing/*'" in message
    assert "source more: web/a.lines would be read twice; it is also web/a.lines in files of source web" in message
    assert not (tmp_path / "out").exists()


def test_a_file_of_no_known_format_is_named(mixture, tmp_path):
    (mixture.parent / "web" / "x.what").write_text("x")
    edit(mixture, ('"web/*.lines"', '"web/*"'))
    with pytest.raises(DataError, match=r"source web: .*x\.what"):
        prepare_inline(mixture, tmp_path / "out")


@pytest.mark.parametrize("name", ["byte", "char"])
def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path, name):
    mixture = write_mixture(tmp_path / "raw", tokenizer=name)
    with pytest.raises(ConfigError, match="has no end-of-text token") as caught:
        module.prepare(mixture, tmp_path / "out")
    assert "train-tokenizer" in str(caught.value)


def test_what_is_wrong_with_cleaning_or_a_synthetic_source_is_told_before_any_work(mixture, tmp_path, monkeypatch):
    def refused(kind, what):
        def make(*_):
            raise kind(f"{what} is unknown")

        return make

    monkeypatch.setattr(inputs, "Cleaner", refused(DataError, "a rule"))
    monkeypatch.setattr(inputs, "make_synthetic_source", refused(ConfigError, "a kind"))
    edit(mixture, ('files = ["more/*.lines"]', 'synthetic = { kind = "stub", documents = 20 }'))
    with pytest.raises(DataError, match="2 problems") as caught:
        prepare_inline(mixture, tmp_path / "out")
    for line in ("source books, web: a rule is unknown", "source more: a kind is unknown"):
        assert line in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_restart_takes_away_what_was_written_and_nothing_else(mixture, tmp_path, monkeypatch, tokenizer):
    """Also the files of another tokenizer."""
    files = tokenizer.contents() | {"other.tiktoken": b"of before"}
    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "contents", lambda self: files)
        out = prepare_inline(mixture, tmp_path / "out")
    assert (out / "tokenizer" / "other.tiktoken").exists()
    mine = ["mine.txt", "tokenizer/mine.txt", "web/train_5.bin", "web/train_000000.bin.gz", "books/train_x.bin"]
    for name in [*mine, "web/train_000007.bin.partial"]:
        (out / name).write_text("mine")
    after = contents(prepare_inline(mixture, out, restart=True))
    assert {name: after.pop(name) for name in mine} == dict.fromkeys(mine, b"mine")
    assert after == contents(prepare_inline(mixture, tmp_path / "anew"))


def test_a_tokenizer_in_a_file_is_seen_from_the_mixture(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.tiktoken").touch()
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(inputs, "make_tokenizer", lambda name, text: asked.append(name))
    for name in ("mine.tiktoken", "gpt2"):
        inputs.open_named_tokenizer(name, Path("raw"))
    assert asked == [str(tmp_path / "raw" / "mine.tiktoken"), "gpt2"]


def test_more_damage_than_allowed_stops_with_the_worst_file(mixture, tmp_path):
    edit(mixture, ("damage = 0.5", "damage = 0.02"))
    with pytest.raises(DataError) as caught:
        prepare_inline(mixture, tmp_path / "out")
    assert "source books: 2 of 73 records are damaged, 2.74%; damage = 0.02 allows 2.00%" in str(caught.value)
    assert "books/c.lines, c.lines#1: it begins with *" in str(caught.value)
    edit(mixture, ("damage = 0.02", "damage = 0.5"))  # does not change the output
    assert prepare_inline(mixture, tmp_path / "out")


def test_damage_stops_long_before_the_end(mixture, tmp_path):
    """As soon as the excess is clear; and the worst file is named."""
    (mixture.parent / "books" / "b.lines").write_text("!\n" * 3 + "the\n")
    (mixture.parent / "books" / "c.lines").write_text("!\n" * 50_000)
    edit(mixture, ("damage = 0.5", "damage = 0.05"))
    executor = Inline()
    with pytest.raises(DataError, match=r"worst file : books/c\.lines") as caught:
        prepare_inline(mixture, tmp_path / "out", executor, workers=1)
    assert executor.submitted < 50
    assert "it begins with !" in str(caught.value)


def test_bytes_that_are_not_read_count_as_records_do(mixture, tmp_path, monkeypatch):
    """The rest of a file may be one damaged record."""
    (mixture.parent / "books" / "c.lines").write_text("!\n" * 6 + "the\n" * 994)
    size = sum(path.stat().st_size for path in (mixture.parent / "books").glob("*.lines"))

    def losing(lost):
        def records(path):
            yield from line_records(path)
            if path.name == "c.lines":
                yield Damaged("c.lines#1001", "cut short", lost)

        return replace(FORMATS["lines"], read_records=records)

    edit(mixture, ("damage = 0.5", "damage = 0.1"))
    with monkeypatch.context() as patch:
        patch.setitem(FORMATS, "lines", losing(size // 10 + 1))
        with pytest.raises(
            DataError, match=rf"lost       : {size // 10 + 1:,} of {size:,} bytes(.|\n)*c.lines#1001: cut short"
        ):
            prepare_inline(mixture, tmp_path / "out")
        patch.setitem(FORMATS, "lines", losing(size // 10))
        out = prepare_inline(mixture, tmp_path / "other")
    assert json.loads((out / "report.json").read_bytes())["books"]["lost"] == size // 10


def test_the_worst_file_is_not_the_last_one(mixture, tmp_path):
    (mixture.parent / "books" / "b.lines").write_text("!\n" * 7 + "the\n")
    edit(mixture, ("damage = 0.5", "damage = 0.05"))
    with pytest.raises(DataError, match=r"worst file : books/b\.lines, 7 of them"):
        prepare_inline(mixture, tmp_path / "out")


def test_damage_within_the_share_goes_on(mixture, tmp_path):
    edit(mixture, ("damage = 0.5", f"damage = {2 / 73 + 1e-9:.9f}"))
    edit(mixture, ('files = ["web/*.lines"]', 'files = ["web/b.lines"]'))
    assert prepare_inline(mixture, tmp_path / "out")


def test_a_source_of_which_nothing_is_left_says_what_removed_it(mixture, tmp_path):
    for path in (mixture.parent / "web").glob("*"):
        path.write_text((mixture.parent / "books" / path.name).read_text("utf-8"), "utf-8")
    with pytest.raises(DataError) as caught:
        prepare_inline(mixture, tmp_path / "out")
    assert "source web: no training document is left of 52 records" in str(caught.value)
    assert "exact duplicate 50, no text 1" in str(caught.value) or "no text 1, exact duplicate 50" in str(caught.value)


def test_a_million_spaces_in_a_row_are_a_damaged_record(mixture, tmp_path):
    """tiktoken's regular expression fails on them."""
    with open(mixture.parent / "web" / "a.lines", "a") as file:
        file.write("x" + " " * 1_000_000 + "x\n")
    report = json.loads((prepare_inline(mixture, tmp_path / "out") / "report.json").read_bytes())
    assert report["web"]["damaged"] == 2
    assert "the tokenizer failed" in report["web"]["damage"][1][2]


def test_half_a_surrogate_pair_is_replaced(mixture, tmp_path, monkeypatch):
    """By U+FFFD, as tiktoken does, and as normalise.py says."""
    monkeypatch.setattr(
        line_text.__globals__["LINES"].__class__, "extract_text", property(lambda self: surrogate), raising=False
    )
    report = json.loads((prepare_inline(mixture, tmp_path / "out") / "report.json").read_bytes())
    assert report["more"]["damaged"] == 0
    texts = tiny_tokenizer(tmp_path / "again").decode(tokens_in(tmp_path / "out", "more", "train").tolist())
    assert texts.count("\ufffd") == sum(line.startswith("the") for line in texts.split("<|endoftext|>")) > 0


def surrogate(content):
    return content + "\ud800" if content.startswith("the") else content
