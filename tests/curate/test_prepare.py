"""From raw files to a dataset: its content, with any executor, and what is refused."""

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mixture import (
    Inline,
    contents,
    documents,
    line_records,
    line_text,
    prepare_inline,
    set_up,
    tiny_tokenizer,
    tokens_in,
    write_mixture,
)

from tinygrad_lm.curate import prepare as module
from tinygrad_lm.curate.cleaning.cleaner import Cleaned, Removal
from tinygrad_lm.curate.output.journal import sealed_json
from tinygrad_lm.curate.pipeline import inputs, worker
from tinygrad_lm.curate.readers.formats import FORMATS
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.data.config_table import number_kind
from tinygrad_lm.data.synthetic.kinds import KINDS
from tinygrad_lm.data.synthetic.synthetic_source import Entropy, SyntheticSource, option
from tinygrad_lm.errors import ConfigError, DataError


@pytest.fixture
def mixture(tmp_path, monkeypatch):
    """The small mixture's file."""
    set_up(monkeypatch, tmp_path)
    return write_mixture(tmp_path / "raw")


@pytest.fixture
def tokenizer(tmp_path):
    return tiny_tokenizer(tmp_path / "vocabulary")


def edit(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def kept(folder, sources=("books", "web", "more")):
    """{source: its remaining texts}, computed in the simplest way: each text once, in the first source that has it."""
    seen, texts = set(), {}
    for source in sources:
        texts[source] = []
        for path in sorted((folder / source).glob("*.lines")):
            for record in line_records(path):
                if isinstance(record, Damaged) or record.content.startswith("*") or line_text(record.content) is None:
                    continue
                if record.content not in seen:
                    seen.add(record.content)
                    texts[source].append(record.content)
    return texts


def held_out(text, share):
    return int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16) / 2**64 < share


# ---- what is in the files


def test_the_token_files_hold_every_text_once_in_order(mixture, tmp_path, tokenizer):
    out = prepare_inline(mixture, tmp_path / "out")
    for source, texts in kept(mixture.parent).items():
        for split, wanted in (("train", False), ("val", True)):
            ids = [
                i for text in texts if held_out(text, 0.2) == wanted for i in [tokenizer.eot, *tokenizer.encode(text)]
            ]
            assert tokens_in(out, source, split).tolist() == ids
            assert ids


def test_a_file_is_laid_out_as_llm_c_lays_it_out(mixture, tmp_path, tokenizer):
    """Byte for byte equal to a small independent writer."""
    out = prepare_inline(mixture, tmp_path / "out")
    ids = tokens_in(out, "web", "train").tolist()
    header = [20240520, 1, len(ids)] + [0] * 253
    expected = struct.pack("<256i", *header) + b"".join(struct.pack("<H", i) for i in ids)
    assert (out / "web" / "train_000000.bin").read_bytes() == expected


def test_every_file_but_the_last_is_full(mixture, tmp_path):
    whole, cut = prepare_inline(mixture, tmp_path / "whole"), tmp_path / "cut"
    edit(mixture, ("shard_tokens = 10000", "shard_tokens = 97"))
    prepare_inline(mixture, cut)
    for source in ("books", "web", "more"):
        for split in ("train", "val"):
            row = tokens_in(whole, source, split)
            assert (tokens_in(cut, source, split) == row).all()
            files = sorted((cut / source).glob(f"{split}_*"))
            assert [path.stat().st_size for path in files[:-1]] == [1024 + 2 * 97] * (
                len(row) // 97 - (len(row) % 97 == 0)
            )


def test_a_row_that_fills_its_files_leaves_no_empty_one(mixture, tmp_path):
    row = tokens_in(prepare_inline(mixture, tmp_path / "whole"), "more", "train")
    edit(mixture, ("shard_tokens = 10000", f"shard_tokens = {len(row)}"))
    out = prepare_inline(mixture, tmp_path / "out")
    assert [path.name for path in sorted((out / "more").glob("train_*"))] == ["train_000000.bin"]


def test_the_manifest_says_what_is_in_the_files(mixture, tmp_path, tokenizer):
    edit(mixture, ("shard_tokens = 10000", "shard_tokens = 200"))
    out = prepare_inline(mixture, tmp_path / "out")
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["tokenizer"] == {
        "name": "gpt2", "fingerprint": tokenizer.fingerprint, "folder": "tokenizer",
        "files": ["encoder.json", "vocab.bpe"],
    }  # fmt: skip
    assert {name: entry["weight"] for name, entry in manifest["sources"].items()} == {
        "books": "1/2", "web": "1/4", "more": "1/4",
    }  # fmt: skip
    texts = kept(mixture.parent)
    listed = set()
    for name, entry in manifest["sources"].items():
        assert entry["floor"] == {"train": None, "val": None}
        for split in ("train", "val"):
            here = [text for text in texts[name] if held_out(text, 0.2) == (split == "val")]
            assert entry[split]["documents"] == len(here)
            assert entry[split]["bytes"] == sum(len(text.encode()) for text in here)
            assert entry[split]["tokens"] == len(tokens_in(out, name, split))
            for shard in entry[split]["shards"]:
                content = (out / shard["file"]).read_bytes()
                listed.add(out / shard["file"])
                assert hashlib.sha256(content).hexdigest() == shard["sha256"]
                assert len(content) == 1024 + 2 * shard["tokens"]
    assert listed == set(out.glob("*/*.bin"))
    work_files = {"manifest.json", "report.json", "removed.jsonl", "tokenizer", "books", "web", "more"}
    assert {path.name for path in out.iterdir()} == work_files


def test_the_report_counts_every_record(mixture, tmp_path, capsys):
    out = prepare_inline(mixture, tmp_path / "out")
    report = json.loads((out / "report.json").read_bytes())
    texts = kept(mixture.parent)
    for name, entry in report.items():
        found = [record for path in sorted((mixture.parent / name).glob("*")) for record in line_records(path)]
        bad = [r for r in found if isinstance(r, Damaged) or r.content.startswith("*")]
        empty = [r for r in found if not isinstance(r, Damaged) and r.content == "?"]
        assert entry["records"] == len(found)
        assert entry["damaged"] == len(bad)
        removed = {step: sum(e["reasons"].values()) for step, e in entry["removed"].items()}
        assert removed.get("no text", 0) == len(empty)
        again = len(found) - len(bad) - len(empty) - len(texts[name])
        assert removed.get("exact duplicate", 0) == again
        assert (again > 0) == (name != "more")
        assert entry["train"]["documents"] + entry["val"]["documents"] == len(texts[name])
    assert report["books"]["damage"] == [
        ["books/a.lines", "a.lines#31", "it begins with !", 0],
        ["books/c.lines", "c.lines#1", "it begins with *", 0],
    ]
    table = capsys.readouterr().out
    assert "books" in table
    assert "exact duplicate" in table


def test_evaluation_files_are_looked_at_before_the_work_begins(mixture, tmp_path, capsys):
    """Also those of the last source."""
    mixture.write_text(mixture.read_text() + '[source.clean]\ndecontaminate = ["eval.json"]\n')
    (mixture.parent / "eval.json").write_text('["the"]')
    prepare_inline(mixture, tmp_path / "out")
    assert "1 of 1 texts in eval.json have fewer than 13 words" in capsys.readouterr().out
    (mixture.parent / "eval.json").write_text('["the"')
    with pytest.raises(DataError, match=r"eval\.json: Expecting"):
        prepare_inline(mixture, tmp_path / "again")
    assert not list((tmp_path / "again").glob("*/*.bin*"))


def test_examples_of_what_was_removed(mixture, tmp_path):
    out = prepare_inline(mixture, tmp_path / "out")
    lines = [json.loads(line) for line in (out / "removed.jsonl").read_text().splitlines()]
    texts = kept(mixture.parent)
    duplicates = [line for line in lines if (line["source"], line["step"]) == ("web", "exact duplicate")]
    assert len(duplicates) == 5
    for line in duplicates:
        everything = [text for group in texts.values() for text in group]
        assert any(text.startswith(line["text"]) for text in everything)
    everyone = {
        f"{path.name}#{i}"
        for path in (mixture.parent / "web").glob("*")
        for i, line in enumerate(path.read_text().splitlines(), 1)
        if line in texts["books"]
        or (path.name == "b.lines" and line in (path.parent / "a.lines").read_text().split("\n"))
    }
    ranked = sorted(everyone, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).hexdigest())
    assert [line["id"] for line in duplicates] == ranked[:5]


def test_the_first_source_keeps_what_several_have(mixture, tmp_path):
    before = contents(prepare_inline(mixture, tmp_path / "before"))
    text = mixture.read_text()
    head, *tables = text.split("[[source]]")
    mixture.write_text("[[source]]".join([head, *(t if t.endswith("\n") else t + "\n" for t in reversed(tables))]))
    out = prepare_inline(mixture, tmp_path / "after")
    for source, texts in kept(mixture.parent, ("more", "web", "books")).items():
        report = json.loads((out / "report.json").read_bytes())[source]
        assert report["train"]["documents"] + report["val"]["documents"] == len(texts)
    assert contents(out)["web/train_000000.bin"] != before["web/train_000000.bin"]


def test_without_deduplication_all_stay(mixture, tmp_path):
    edit(mixture, ('"exact"', '"none"'))
    report = json.loads((prepare_inline(mixture, tmp_path / "out") / "report.json").read_bytes())
    assert sum(entry[split]["documents"] for entry in report.values() for split in ("train", "val")) == 155
    assert all("exact duplicate" not in entry["removed"] for entry in report.values())


@given(st.data())
def test_what_is_held_out_does_not_depend_on_order_or_files(tmp_path_factory, data):
    """Nor on the other documents: each text decides alone."""
    texts = documents(40, seed=3)
    shuffled = data.draw(st.permutations(texts))
    cut = data.draw(st.integers(1, 39))
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("order")
        tokenizer = set_up(patch, folder)
        (folder / "a.lines").write_text("\n".join(shuffled[:cut]), "utf-8")
        (folder / "b.lines").write_text("\n".join(shuffled[cut:]), "utf-8")
        path = folder / "mix.toml"
        path.write_text('validation = 0.3\n[[source]]\nname = "a"\nweight = 1\nfiles = ["*.lines"]\n')
        out = prepare_inline(path, folder / "out")
        row = tokens_in(out, "a", "val").tolist()
    expected = sorted(text for text in texts if held_out(text, 0.3))
    assert sorted(tokenizer.decode(row).split("<|endoftext|>")[1:]) == expected


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.9])
def test_the_share_that_is_held_out(share):
    found = sum(worker.is_held_out(text.encode(), share) for text in map(str, range(20_000))) / 20_000
    assert abs(found - share) <= 5 * (share * (1 - share) / 20_000) ** 0.5


def test_more_than_65536_tokens_take_four_bytes(mixture, tmp_path, monkeypatch, tokenizer):
    small = prepare_inline(mixture, tmp_path / "small")
    monkeypatch.setattr(type(tokenizer), "vocab_size", 2**16 + 1)
    large = prepare_inline(mixture, tmp_path / "large")
    content = (large / "web" / "train_000000.bin").read_bytes()
    row = tokens_in(small, "web", "train")
    assert np.frombuffer(content[:1024], "<i4")[:3].tolist() == [20240801, 7, len(row)]
    assert (np.frombuffer(content[1024:], "<u4") == row).all()


# ---- whoever computes it


class Backwards:
    """An executor that computes only on request, the newest first."""

    def __init__(self):
        self.waiting, self.most = [], 0

    def submit(self, function, *arguments):
        executor = self

        class Late(Future):
            def result(self, timeout=None):
                while executor.waiting:
                    future, function, arguments = executor.waiting.pop()
                    future.set_result(function(*arguments))
                return super().result(timeout)

        future = Late()
        self.waiting.append((future, function, arguments))
        self.most = max(self.most, len(self.waiting))
        return future


@pytest.fixture
def undisturbed(mixture, tmp_path):
    return contents(prepare_inline(mixture, tmp_path / "undisturbed"))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_executor_writes_the_same_bytes(mixture, tmp_path, undisturbed, workers):
    backwards = Backwards()
    assert contents(prepare_inline(mixture, tmp_path / "backwards", backwards, workers=workers)) == undisturbed
    assert backwards.most == 2 * workers + 1  # bounded, and several at once
    with ThreadPoolExecutor(workers) as executor:
        assert contents(prepare_inline(mixture, tmp_path / "threads", executor, workers=workers)) == undisturbed
        assert executor.submit(int).result() == 0  # the caller's executor stays usable


@settings(max_examples=20)
@given(st.integers(1, 5000), st.integers(1, 20_000))
def test_the_size_of_a_batch_and_the_journal_do_not_matter(tmp_path_factory, batch, journal):
    folder = tmp_path_factory.mktemp("batch")
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, folder)
        mixture = write_mixture(folder / "raw")
        expected = contents(prepare_inline(mixture, folder / "one"))
        set_up(patch, folder, batch, journal)
        assert contents(prepare_inline(mixture, folder / "two")) == expected


def test_processes_write_the_same_bytes(tmp_path, monkeypatch):
    """The default: spawned processes, which share nothing with this one."""
    set_up(monkeypatch, tmp_path)
    for i, text in enumerate(documents(60, seed=5)):
        (tmp_path / f"{i:02}.txt").write_bytes(text.encode())
    mixture = tmp_path / "mix.toml"
    mixture.write_text('validation = 0.2\n[[source]]\nname = "a"\nweight = 1\nfiles = ["*.txt"]\n')
    expected = contents(prepare_inline(mixture, tmp_path / "inline"))
    assert contents(module.prepare(mixture, tmp_path / "processes", workers=2)) == expected


# ---- cleaning, between text and tokens


class Cutter:
    """Stands in for a Cleaner: removes texts with "猫", cuts the others at " ab "."""

    def __init__(self, clean, folder):
        pass

    def __call__(self, text):
        if "猫" in text:
            return Cleaned((), (Removal("cats", "a cat is in it", text),))
        pieces = tuple(piece for piece in text.split(" ab ") if piece)
        return Cleaned(pieces, tuple(Removal("cut", "ab", " ab ") for _ in pieces[1:]))


def test_what_cleaning_removes_is_gone_and_counted(mixture, tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(worker, "Cleaner", Cutter)
    worker.load_tools.cache_clear()
    out = prepare_inline(mixture, tmp_path / "out")
    worker.load_tools.cache_clear()
    report = json.loads((out / "report.json").read_bytes())
    text = "".join(tokenizer.decode(tokens_in(out, name, split)) for name in report for split in ("train", "val"))
    sides = [
        "".join(tokenizer.decode(tokens_in(out, name, split)) for name in report).split("<|endoftext|>")
        for split in ("train", "val")
    ]
    assert "猫" not in text
    assert " ab " not in text
    assert "there" in text
    cats = [
        line for path in (mixture.parent / "more").glob("*") for line in path.read_text().splitlines() if "猫" in line
    ]
    assert report["more"]["removed"]["cats"] == {
        "reasons": {"a cat is in it": len(cats)}, "documents": len(cats), "parts": 0, "characters": sum(map(len, cats))
    }  # fmt: skip
    left = {line for path in (mixture.parent / "more").glob("*") for line in path.read_text().splitlines()} - set(cats)
    pieces = [piece for line in left for piece in line.split(" ab ") if piece]
    made = report["more"]["train"]["documents"] + report["more"]["val"]["documents"]
    for line in left:  # all pieces are in the split of their whole text
        for piece in line.split(" ab "):
            assert not piece or piece in sides[held_out(line, 0.2)]
    assert made + sum(report["more"]["removed"].get("exact duplicate", {"reasons": {}})["reasons"].values()) == len(
        pieces
    )
    assert report["more"]["pieces"] == len(pieces) - len(left) > 2
    assert report["more"]["removed"]["cut"]["parts"] == len(pieces) - len(left)
    assert report["more"]["removed"]["cut"]["documents"] == 0


def test_the_table_adds_up(mixture, tmp_path, monkeypatch, capsys):
    """For each source, records plus the changes listed below it give its documents."""

    class First(Cutter):
        """Removes a letter from all texts before they are cut or removed."""

        def __call__(self, text):
            cleaned = super().__call__(text[1:])
            return Cleaned(cleaned.texts, (Removal("first", "letter", text[0]), *cleaned.removed))

    monkeypatch.setattr(worker, "Cleaner", First)
    worker.load_tools.cache_clear()
    prepare_inline(mixture, tmp_path / "out")
    worker.load_tools.cache_clear()
    steps = sums(capsys.readouterr().out)
    assert {name: steps[name][0] for name in steps} == {"books": 73, "web": 57, "more": 30}
    for records, left, changes in steps.values():
        assert records + sum(changes.values()) == left
    assert set(steps["books"][2]) == {"damaged", "no text", "first", "cats", "cut", "pieces", "exact duplicate"}


def test_the_table_adds_up_when_evaluation_texts_are_cut_out(tmp_path, monkeypatch, capsys):
    set_up(monkeypatch, tmp_path)
    question = " ".join(f"q{i}" for i in range(13))
    longer, shorter = (" ".join(f"w{i}" for i in range(n)) for n in (400, 20))
    twice = f"{longer} {question} {longer}"
    texts = [twice, f"{shorter} {question} {shorter}", longer, twice]
    (tmp_path / "a.lines").write_text("\n".join(texts))
    (tmp_path / "eval.txt").write_text(question)
    path = tmp_path / "mix.toml"
    path.write_text(
        'validation = 0\n[clean]\ndecontaminate = ["eval.txt"]\ndeduplicate = "exact"\n'
        '[[source]]\nname = "a"\nweight = 1\nfiles = ["*.lines"]\n'
    )
    prepare_inline(path, tmp_path / "out")
    told = capsys.readouterr().out
    removed = {"decontaminate": -1, "pieces": 2, "exact duplicate": -2}
    assert sums(told) == {"a": (4, 3, removed)}
    assert "and 2 parts of others" in told


def sums(table):
    """{source: (records, documents, {step: change})}, parsed from the report's table."""
    found, name = {}, None
    for line in table.splitlines()[1:]:
        if line.startswith(("  - ", "  + ")):
            what, number = re.fullmatch(r"  [-+] (.+?)  +([\d,]+)  .*", line).groups()
            found[name][2][what] = int(f"{line[2]}{number.replace(',', '')}")
        elif not line.startswith((" ", "warning")):
            name, records, left = line.split()[:3]
            found[name] = (int(records), int(left), {})
    return found


def test_a_long_name_pushes_no_column_out(mixture, tmp_path, capsys):
    edit(mixture, ('name = "web"', f'name = "web-{"x" * 40}"'))
    prepare_inline(mixture, tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert len(lines) == 4
    assert {len(line) for line in lines} == {len(lines[0])}


def test_the_table_names_the_first_damaged_records(mixture, tmp_path, capsys):
    (mixture.parent / "more" / "b.lines").write_text("!\n" * 4 + "the\n")
    prepare_inline(mixture, tmp_path / "out")
    told = capsys.readouterr().out.splitlines()
    row = next(i for i, line in enumerate(told) if "4  11.43% of the records" in line)
    assert told[row + 1 : row + 5] == [
        *(f"      more/b.lines, b.lines#{i}: it begins with !" for i in (1, 2, 3)),
        "      … more in report.json; most are in more/b.lines",
    ]
    assert sum("report.json" in line for line in told) == 1


def test_what_a_synthetic_source_draws_is_not_cleaned_and_has_a_floor(mixture, tmp_path, monkeypatch, tokenizer):
    @dataclass(frozen=True)
    class Made(SyntheticSource):
        share: float = option(0.5, number_kind(0))
        entropy = Entropy(10.0, 0.5)

        def documents(self, count, seed=0, first=0):
            return iter(([f"{seed} the 猫 the"] * 3 + documents(count, seed))[first:])

        def nats(self, text):
            return len(text) / 7

    monkeypatch.setitem(KINDS, "stub", Made)
    monkeypatch.setattr(worker, "Cleaner", Cutter)
    worker.load_tools.cache_clear()
    edit(mixture, ('files = ["more/*.lines"]', 'synthetic = { kind = "stub", documents = 20, seed = 4, share = 0.5 }'))
    out = prepare_inline(mixture, tmp_path / "out")
    worker.load_tools.cache_clear()
    entry = json.loads((out / "manifest.json").read_bytes())["sources"]["more"]
    texts = list(Made().documents(20, 4))
    for split in ("train", "val"):
        here = [text for text in texts if held_out(text, 0.2) == (split == "val")]
        ids = [i for text in here for i in [tokenizer.eot, *tokenizer.encode(text)]]
        assert tokens_in(out, "more", split).tolist() == ids
        assert entry["floor"][split] == pytest.approx(sum(len(text) / 7 for text in here) / len(ids), rel=1e-12)


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


def damage(path, change):
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))


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
            "it is damaged, or not a token file: remove it from the list, or fetch or prepare it again",
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


def test_half_a_surrogate_pair_is_a_damaged_record(mixture, tmp_path, monkeypatch):
    monkeypatch.setattr(
        line_text.__globals__["LINES"].__class__, "extract_text", property(lambda self: surrogate), raising=False
    )
    report = json.loads((prepare_inline(mixture, tmp_path / "out") / "report.json").read_bytes())
    assert "half a surrogate pair" in report["more"]["damage"][0][2]


def surrogate(content):
    return content + "\ud800" if content.startswith("the") else content


# ---- what was prepared before


def test_a_finished_one_is_left_as_it_is(mixture, tmp_path, capsys):
    out = prepare_inline(mixture, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    executor = Inline()
    assert prepare_inline(mixture, out, executor) == out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert executor.submitted == 0
    assert "is finished already" in capsys.readouterr().out


def test_other_weights_need_no_other_token_files(mixture, tmp_path, capsys):
    out = prepare_inline(mixture, tmp_path / "out")
    before = contents(out)
    edit(mixture, ('"1/2"', '"1/8"'), ('"1/4"', '"7/16"'))
    executor = Inline()
    prepare_inline(mixture, out, executor)
    after = contents(out)
    manifest = json.loads(after["manifest.json"])
    assert [entry["weight"] for entry in manifest["sources"].values()] == ["1/8", "7/16", "7/16"]
    assert {key for key in before if before[key] != after[key]} == {"manifest.json"}
    assert executor.submitted == 0
    told = capsys.readouterr().out
    assert "source books: weight 1/2 before, 1/8 now" in told
    assert prepare_inline(mixture, out)
    assert "now" not in capsys.readouterr().out


CHANGES = {
    "validation": lambda mixture: edit(mixture, ("validation = 0.2", "validation = 0.3")),
    "shard_tokens": lambda mixture: edit(mixture, ("shard_tokens = 10000", "shard_tokens = 999")),
    "deduplicate": lambda mixture: edit(mixture, ('"exact"', '"none"')),
    "web/b.lines": lambda mixture: (mixture.parent / "web" / "b.lines").write_text("shorter\n"),
    "web/c.lines": lambda mixture: (mixture.parent / "web" / "c.lines").write_text("another\n"),
    "format": lambda mixture: edit(mixture, ('name = "web"', 'name = "web"\nformat = "lines"')),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_or_files_are_refused_by_name(mixture, tmp_path, name, finished, monkeypatch):
    begun(mixture, tmp_path / "out", monkeypatch, finished)
    before = contents(tmp_path / "out")
    CHANGES[name](mixture)
    with pytest.raises(ConfigError, match=name) as caught:
        prepare_inline(mixture, tmp_path / "out")
    assert "--restart" in str(caught.value)
    assert contents(tmp_path / "out") == before
    out = prepare_inline(mixture, tmp_path / "out", restart=True)
    assert contents(out) == contents(prepare_inline(mixture, tmp_path / "anew"))


def begun(mixture, out, monkeypatch, finished=False):
    """Run `prepare` until a worker fails in the second source, or to the end."""

    class Failing(Inline):
        def submit(self, function, job, items):
            if items[-1].file == "web/b.lines" and not finished:
                raise RuntimeError("stop")
            return super().submit(function, job, items)

    try:
        prepare_inline(mixture, out, Failing(), workers=1)
    except RuntimeError:
        assert json.loads((out / "progress.json").read_bytes())["source"] == 1
    assert (out / "manifest.json").exists() == finished


@pytest.mark.parametrize("finished", [True, False])
def test_another_tokenizer_is_refused(mixture, tmp_path, monkeypatch, finished):
    begun(mixture, tmp_path / "out", monkeypatch, finished)
    monkeypatch.setattr("small_mixture.MERGES", ["t h", "h e"])
    other = tiny_tokenizer(tmp_path / "other")
    monkeypatch.setattr(module, "open_tokenizer", lambda mixture: other)
    with pytest.raises(ConfigError, match=f"tokenizer: .* before, {other.fingerprint[:12]} now"):
        prepare_inline(mixture, tmp_path / "out")


def test_sources_in_another_order_are_refused(mixture, tmp_path):
    prepare_inline(mixture, tmp_path / "out")
    head, *tables = mixture.read_text().split("[[source]]")
    mixture.write_text("[[source]]".join([head, *reversed(tables)]))
    with pytest.raises(ConfigError, match="books, web, more before, more, web, books now"):
        prepare_inline(mixture, tmp_path / "out")


def test_a_source_that_is_gone_leaves_no_files_after_a_restart(mixture, tmp_path):
    out = prepare_inline(mixture, tmp_path / "out")
    text = mixture.read_text().split("[[source]]")
    mixture.write_text("[[source]]".join([text[0], text[1].replace("1/2", "3/4"), text[3]]))
    prepare_inline(mixture, out, restart=True)
    assert not (out / "web").exists()
    assert contents(out) == contents(prepare_inline(mixture, tmp_path / "anew"))


@pytest.mark.parametrize("restart", [True, False])
def test_a_folder_of_something_else_is_left_alone(mixture, tmp_path, restart):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not a dataset: it has other files, diary\.txt"):
        prepare_inline(mixture, tmp_path / "out", restart=restart)
    assert contents(tmp_path / "out") == {"diary.txt": b"mine"}


def test_a_restart_takes_nothing_away_outside_of_its_folder(mixture, tmp_path):
    """Even if a foreign manifest lists such paths."""
    out = prepare_inline(mixture, tmp_path / "out")
    manifest = json.loads((out / "manifest.json").read_bytes())
    manifest["tokenizer"]["files"] += ["../../mine.txt", str(tmp_path / "mine.txt")]
    manifest["sources"]["../other"] = manifest["sources"]["web"]
    del manifest["seal"]
    (out / "manifest.json").write_bytes(sealed_json(manifest))
    (tmp_path / "other").mkdir()
    for name in ("mine.txt", "other/train_000000.bin"):
        (tmp_path / name).write_text("mine")
    prepare_inline(mixture, out, restart=True)
    assert (tmp_path / "mine.txt").read_text() == (tmp_path / "other" / "train_000000.bin").read_text() == "mine"


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("name", ["manifest.json", "progress.json"])
@pytest.mark.parametrize("content", ['{"app": 1}', "[]", "not JSON", '{"seal": 1, "sources": []}'])
def test_files_of_the_same_names_that_are_not_ours_are_left_alone(mixture, tmp_path, restart, name, content):
    theirs = {name: content, "report.json": "{}", "tokenizer/mine.txt": "mine", "web/train_000000.bin": "mine"}
    for file, text in theirs.items():
        (tmp_path / "out" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / file).write_text(text)
    with pytest.raises(ConfigError, match=rf"not a dataset: it has other files, {name}; choose another --out"):
        prepare_inline(mixture, tmp_path / "out", restart=restart)
    assert contents(tmp_path / "out") == {file: text.encode() for file, text in theirs.items()}


def test_a_manifest_that_is_not_ours_is_told_before_missing_files(mixture, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    edit(mixture, ("web/*.lines", "gone/*.lines"))
    with pytest.raises(ConfigError, match="is not a dataset"):
        prepare_inline(mixture, tmp_path / "out")


def test_a_file_is_no_folder_to_write_to(mixture, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match=r"expected a folder to write to, found the file .*out; choose another --out"):
        prepare_inline(mixture, tmp_path / "out")


def test_a_file_that_was_written_anew_meanwhile_is_refused_though_it_is_as_long(mixture, tmp_path, monkeypatch):
    begun(mixture, tmp_path / "out", monkeypatch)
    before, later = contents(tmp_path / "out"), mixture.parent / "more" / "a.lines"
    rewritten(later)  # not begun, so it may change
    path = mixture.parent / "books" / "a.lines"
    time = path.stat().st_mtime_ns
    rewritten(path)
    with pytest.raises(ConfigError, match=r"books/a\.lines: modified 20.* before, 20.* now") as caught:
        prepare_inline(mixture, tmp_path / "out")
    assert "--restart" in str(caught.value)
    assert "more/a.lines" not in str(caught.value)
    assert contents(tmp_path / "out") == before
    out = prepare_inline(mixture, tmp_path / "out", restart=True)
    assert contents(out) == contents(prepare_inline(mixture, tmp_path / "anew"))
    os.utime(path, ns=(time, time))
    prepare_inline(mixture, out)  # times of finished datasets are not compared, because copies have others


def test_a_source_that_is_not_begun_may_be_written_anew(mixture, tmp_path, monkeypatch):
    begun(mixture, tmp_path / "out", monkeypatch)
    rewritten(mixture.parent / "more" / "a.lines")

    class Failing(Inline):
        def submit(self, function, job, items):
            if items[-1].found.id == "a.lines#30":
                raise RuntimeError("stop")
            return super().submit(function, job, items)

    with pytest.raises(RuntimeError):
        prepare_inline(mixture, tmp_path / "out", Failing(), workers=1)
    state = json.loads((tmp_path / "out" / "progress.json").read_bytes())
    assert state["source"] == 2
    assert state["record"] > 0
    prepare_inline(mixture, tmp_path / "out")  # begun by now, and unchanged
    assert contents(prepare_inline(mixture, tmp_path / "out")) == contents(prepare_inline(mixture, tmp_path / "anew"))


def rewritten(path):
    """Write other text of the same length, five seconds later."""
    time = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(b"the", b"hte"))
    os.utime(path, ns=(time, time + 5_000_000_000))


def test_what_is_written_is_not_read(mixture, tmp_path):
    """Even if patterns match the output."""
    folder = mixture.parent
    edit(mixture, ('"more/*.lines"', '"more/**/*.*"'), ("[[source]]", '[[source]]\nformat = "lines"'))
    before = contents(prepare_inline(mixture, folder / "more" / "out"))
    executor = Inline()
    assert contents(prepare_inline(mixture, folder / "more" / "out", executor)) == before
    assert executor.submitted == 0
    assert contents(prepare_inline(mixture, folder / "more" / "out", restart=True)) == before


def test_files_in_the_folder_to_write_to_alone_are_told(mixture):
    with pytest.raises(
        DataError, match=r"'more/\*\.lines' only matches files in the output folder .*more; choose another --out"
    ):
        prepare_inline(mixture, mixture.parent / "more")


@pytest.mark.parametrize("name", ["web", "web/"])
def test_a_folder_among_the_files_is_told(mixture, tmp_path, name):
    edit(mixture, ('"web/*.lines"', f'"{name}"'))
    with pytest.raises(DataError, match=rf"source web: '{name}' only matches folders, expected files; use web/\*"):
        prepare_inline(mixture, tmp_path / "out")


def test_two_at_once_are_refused(mixture, tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such locks")

    class Second(Inline):
        def submit(self, *arguments):
            with pytest.raises(ConfigError, match="another process is writing to"):
                prepare_inline(mixture, tmp_path / "out")
            return super().submit(*arguments)

    prepare_inline(mixture, tmp_path / "out", Second())


def test_a_damaged_journal_is_refused_and_can_be_made_anew(mixture, tmp_path, monkeypatch, undisturbed):
    out = tmp_path / "out"
    begun(mixture, out, monkeypatch)
    for change in (lambda c: c.replace(b'"record": ', b'"record": 1'), lambda c: c[:-9], lambda c: c[:300]):
        before = (out / "progress.json").read_bytes()
        (out / "progress.json").write_bytes(change(before))
        with pytest.raises(DataError, match=r"progress\.json is damaged"):
            prepare_inline(mixture, out)
        (out / "progress.json").write_bytes(before)
    (out / "progress.json").write_bytes(before[:300])
    assert contents(prepare_inline(mixture, out, restart=True)) == undisturbed


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_files_that_were_changed_meanwhile_are_noticed(mixture, tmp_path, monkeypatch, change):
    edit(mixture, ("shard_tokens = 10000", "shard_tokens = 100"))
    begun(mixture, tmp_path / "kept", monkeypatch)
    names = [path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").glob("books/*")]
    names += [path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").glob("signatures*")]
    assert len(names) > 4
    for i, name in enumerate(names):
        out = tmp_path / f"out{i}"
        begun(mixture, out, monkeypatch)
        change(out / name)
        with pytest.raises(DataError, match=r"bytes as the journal says") as caught:
            prepare_inline(mixture, out)
        assert name.name in str(caught.value)


def test_the_command_line_tells_a_mistake_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "tinygrad_lm.data", "prepare", str(tmp_path / "none.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: mixture ")
    assert ended.stderr.count("\n") == 1
