"""From raw files to a dataset: its content, with any executor."""

import hashlib
import json
import struct
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from curate.preparing import edit, held_out, kept
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mixture import (
    contents,
    documents,
    line_records,
    prepare_inline,
    set_up,
    tokens_in,
    write_mixture,
)

from tinygrad_lm.curate import prepare as module
from tinygrad_lm.curate.pipeline import worker
from tinygrad_lm.curate.pipeline.executors import processes
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.errors import DataError

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


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_executor_writes_the_same_bytes(mixture, tmp_path, undisturbed, workers):
    backwards = Backwards()
    assert contents(prepare_inline(mixture, tmp_path / "backwards", backwards, workers=workers)) == undisturbed
    assert backwards.most == 2 * workers + 1  # bounded, and several at once
    with ThreadPoolExecutor(workers) as executor:
        assert contents(prepare_inline(mixture, tmp_path / "threads", executor, workers=workers)) == undisturbed
        assert executor.submit(int).result() == 0  # the caller's executor stays usable


@pytest.mark.slow
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


@pytest.mark.slow
def test_processes_write_the_same_bytes(tmp_path, monkeypatch):
    """The default: spawned processes, which share nothing with this one."""
    set_up(monkeypatch, tmp_path)
    for i, text in enumerate(documents(60, seed=5)):
        (tmp_path / f"{i:02}.txt").write_bytes(text.encode())
    mixture = tmp_path / "mix.toml"
    mixture.write_text('validation = 0.2\n[[source]]\nname = "a"\nweight = 1\nfiles = ["*.txt"]\n')
    expected = contents(prepare_inline(mixture, tmp_path / "inline"))
    assert contents(module.prepare(mixture, tmp_path / "processes", processes(2))) == expected
