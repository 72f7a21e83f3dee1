"""The command train-tokenizer: a vocabulary of the requested size, or a message and no file."""

import argparse
import json
import re
import unicodedata

import pytest

from tinygrad_lm.curate import train_tokenizer
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.data.tokenizers import bpe_tokenizer
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError, DataError

TEXTS = ["the cat sat on the mat. " * 20, "a dog ate his hat, the dog did.\n" * 20]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.txt" for i in range(len(TEXTS))]
    for path, text in zip(paths, TEXTS, strict=True):
        path.write_text(text)
    return paths


def command(*arguments):
    parser = argparse.ArgumentParser()
    train_tokenizer.add_arguments(parser)
    return train_tokenizer.train_tokenizer_command(parser.parse_args([str(argument) for argument in arguments]))


def test_a_tokenizer_of_the_size_that_was_asked_for(files, tmp_path, capsys):
    out = tmp_path / "mine.tiktoken"
    assert command(*files, "--vocab-size", 275, "--out", out, "--special", "<|user|>", "<|bot|>") == 0
    tokenizer = make_tokenizer(str(out), "")
    assert tokenizer.vocab_size == 275
    assert tokenizer.special == ["<|endoftext|>", "<|user|>", "<|bot|>"]
    assert tokenizer.eot == 272
    assert b" the" in tokenizer.tokens

    told = capsys.readouterr().out
    texts = list(map(normalise, TEXTS))
    size, length = (sum(map(len, parts)) for parts in (texts, map(tokenizer.encode, texts)))
    words = len(train_tokenizer.count_words(texts))
    assert f"{words} distinct in {size:,} bytes of text" in told
    assert re.search(r"merges  16 in \d+\.\d s\n", told)
    assert f"tokens  275; {size / length:.2f} bytes per token on this text" in told
    assert f"use     --tokenizer {out}, or in a mixture file, with a path relative to it" in told
    assert "fewer" not in told


def test_a_name_is_a_place_in_the_cache(files, tmp_path, monkeypatch):
    monkeypatch.setattr(bpe_tokenizer, "cache_folder", lambda: tmp_path / "cache")
    assert command(*files, "--vocab-size", 257, "--out", "mine") == 0
    assert (tmp_path / "cache" / "tokenizers" / "mine.tiktoken").is_file()
    assert make_tokenizer("mine", "").vocab_size == 257


def test_fewer_merges_than_asked_for_are_told(files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(files[0], "--vocab-size", 1000) == 0
    tokenizer = make_tokenizer("tokenizer.tiktoken", "")
    assert tokenizer.vocab_size < 300
    assert len(tokenizer.encode("the cat sat on the mat. ")) == 8
    assert "fewer than the requested 743: every word of the text is one token" in capsys.readouterr().out


WRONG = {
    "no merges": (["--vocab-size", 257, "--special", "a"], ConfigError, "at least 258 (256 bytes and 2 special), and"),
    "too many": (["--vocab-size", 2**21], ConfigError, "at most 1,114,111; found 2,097,152"),
    "a taken name": (["--vocab-size", 300, "--out", "gpt2"], ConfigError, "gpt2 is the name of a built-in tokenizer"),
    "twice": (["--vocab-size", 300, "--special", "<|endoftext|>"], ConfigError, "special tokens must differ"),
    "an old file": (["--vocab-size", 300, "--out", "old.tiktoken"], ConfigError, "old.tiktoken exists, and "),
    "another suffix": (["--vocab-size", 300, "--out", "q.txt"], ConfigError, "found q.txt; use q.tiktoken or q"),
    "no suffix": (["--vocab-size", 300, "--out", "a/q"], ConfigError, "found a/q; use a/q.tiktoken or q"),
    "no folder": (["--vocab-size", 300, "--out", "0.txt/x.tiktoken"], ConfigError, "cannot be written: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_options(kind, files, tmp_path, monkeypatch):
    """They are reported before the work begins."""
    monkeypatch.setattr(train_tokenizer, "count_words", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.tiktoken").write_text("old")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    options, error, message = WRONG[kind]
    with pytest.raises(error) as caught:
        command(*files, *options)
    assert message in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"caf\xe9"])
def test_files_that_are_no_text(content, tmp_path):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"x.txt: .*expected"):
        command(tmp_path / "x.txt", "--vocab-size", 300, "--out", tmp_path / "x.tiktoken")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_formats_without_a_text(files, tmp_path, monkeypatch):
    monkeypatch.setattr(train_tokenizer, "read_texts", lambda paths: iter([]))
    with pytest.raises(DataError, match=r"0.txt: expected text to learn from, found none"):
        command(files[0], "--vocab-size", 300, "--out", tmp_path / "x.tiktoken")


def test_texts_are_normalised_as_prepare_does(tmp_path):
    """A text with its accents apart (NFD), with \\r\\n and half a surrogate teaches what its normal form does."""
    text = "Việt Nam và nước Pháp đã ký một hiệp định. L'été à l'île était très agréable.\n" * 3
    spoiled = unicodedata.normalize("NFD", text).replace("\n", "\r\n") + "\x00"
    for name, content in (("a", text), ("b", spoiled)):
        (tmp_path / f"{name}.txt").write_bytes(content.encode())
        assert command(tmp_path / f"{name}.txt", "--vocab-size", 330, "--out", tmp_path / f"{name}.tiktoken") == 0
    assert (tmp_path / "a.tiktoken").read_bytes() == (tmp_path / "b.tiktoken").read_bytes()


def test_a_million_blanks(tmp_path, capsys):
    """More than tiktoken's expression has stack for: the report after the work is printed all the same."""
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a b" + "\n" * 1_000_000 + "c d"}))
    assert command(tmp_path / "a.jsonl", "--vocab-size", 257, "--out", tmp_path / "a.tiktoken") == 0
    assert "distinct in 1,000,006 bytes of text" in capsys.readouterr().out


@pytest.mark.parametrize("end", ["jsonl", "parquet", "txt"])
def test_files_are_read_as_a_mixture_says(end, tmp_path):
    """--field for what has fields, --separator for plain text; each for the files that it is for."""
    texts = [normalise(text) for text in TEXTS]
    rows = [{"content": text, "text": "quite another"} for text in texts]
    if end == "parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    elif end == "jsonl":
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        (tmp_path / "a.txt").write_text("<|end|>".join(texts))
    (tmp_path / "b.txt").write_text("more<|end|>and more")
    (tmp_path / "plain.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in [*texts, "more", "and more"])
    )
    options = ["--field", "content"] if end != "txt" else []
    command(tmp_path / f"a.{end}", tmp_path / "b.txt", "--vocab-size", 280, "--out", tmp_path / "a.tiktoken",
            "--separator", "<|end|>", *options)  # fmt: skip
    command(tmp_path / "plain.jsonl", "--vocab-size", 280, "--out", tmp_path / "b.tiktoken")
    assert (tmp_path / "a.tiktoken").read_bytes() == (tmp_path / "b.tiktoken").read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--field", "content"], DataError, "field is for the formats jsonl, parquet, found text; leave it out"),
        (["--separator", ""], ConfigError, "--separator: expected some text, found ''"),
    ],
    ids=["field", "separator"],
)
def test_an_option_that_is_for_none_of_the_files(options, error, message, files, tmp_path, monkeypatch):
    monkeypatch.setattr(train_tokenizer, "count_words", None)
    with pytest.raises(error, match=message):
        command(*files, "--vocab-size", 300, "--out", tmp_path / "x.tiktoken", *options)
