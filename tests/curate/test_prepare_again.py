"""Preparing again: what is checked before hours of work, what may change between runs, and what is reported."""

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tqdm.auto
from curate.preparing import begun, damage, edit, held_out
from small_mixture import Inline, contents, documents, prepare_inline

from tinygrad_lm.curate.cleaning.classifier import FEATURES, Classifier
from tinygrad_lm.curate.pipeline import inputs
from tinygrad_lm.curate.readers.formats import FORMATS
from tinygrad_lm.curate.readers.record import too_damaged
from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.errors import ConfigError, DataError

# ---- what is told before the work


def told_before(mixture, tmp_path):
    """The problems that are reported before anything is written."""
    with pytest.raises(DataError) as caught:
        prepare_inline(mixture, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize("other", ['"./web/a.lines"', '"web/../web/a.lines"', '"web/link"', '"**/a.lines"'])
def test_a_file_by_two_names_is_told(mixture, tmp_path, other):
    if "link" in other:
        (mixture.parent / "web" / "link").symlink_to("a.lines")
    edit(mixture, ('files = ["web/*.lines"]', f'format = "lines"\nfiles = ["web/a.lines", {other}]'))
    assert "would be read twice" in told_before(mixture, tmp_path)


def test_token_files_to_train_on_are_none_to_validate_on(mixture, tmp_path):
    prepare_inline(mixture, tmp_path / "first")
    shards = '["../first/web/train*.bin"]'
    edit(mixture, ('files = ["web/*.lines"]', f"shards = {shards}\nvalidation_shards = {shards}"))
    assert "it is also ../first/web/train_000000.bin in shards of source web" in told_before(mixture, tmp_path)


def test_every_empty_file_and_lying_header_is_told(mixture, tmp_path):
    first = prepare_inline(mixture, tmp_path / "first")
    damage(first / "web" / "train_000000.bin", lambda c: c[:-2])
    for name in ("a", "c"):
        (mixture.parent / "books" / f"{name}.lines").write_bytes(b"")
    edit(mixture, ('files = ["web/*.lines"]', 'shards = ["../first/web/train*.bin"]'))
    message = told_before(mixture, tmp_path)
    assert "3 problems" in message
    for words in (r"books/a.lines: expected documents, found an empty", "books/c.lines: expected", "its header says"):
        assert words in message


def test_a_missing_library_is_told(mixture, tmp_path, monkeypatch):
    def missing(path):
        raise DataError(f"{path.suffix} needs a library")
        yield

    (mixture.parent / "web" / "a.lines").rename(mixture.parent / "web" / "a.lines.gz")
    monkeypatch.setitem(FORMATS, "lines", replace(FORMATS["lines"], read_records=missing))
    edit(mixture, ('"web/*.lines"', '"web/*"'), ('deduplicate = "exact"', 'deduplicate = "fuzzy"'))
    monkeypatch.setattr(inputs, "signature", lambda kind, text: missing(Path("datasketch.fuzzy")).__next__())
    message = told_before(mixture, tmp_path)
    assert "5 problems" in message  # one for each kind of file in a source, and datasketch
    assert "source web: .gz needs a library" in message
    assert "source books, web, more: .fuzzy needs a library" in message


def with_cleaning(mixture):
    """Two files to compare with: a classifier and an evaluation."""
    Classifier(np.zeros(FEATURES, np.float32), 9.0, {}).save(mixture.parent / "q.safetensors")
    (mixture.parent / "eval.jsonl").write_text('{"text": "one two three"}\n')
    edit(mixture, ("[clean]", '[clean]\nclassifier = "q.safetensors"\ndecontaminate = ["eval.jsonl"]'))


def test_damaged_files_of_cleaning_are_told(mixture, tmp_path):
    with_cleaning(mixture)
    (mixture.parent / "eval.jsonl").write_text("{")
    assert "eval.jsonl: line 1: expected JSON" in told_before(mixture, tmp_path)
    damage(mixture.parent / "q.safetensors", lambda c: c[:-1] + b"x")
    assert "q.safetensors is damaged" in told_before(mixture, tmp_path)


@pytest.mark.parametrize("name", ["q.safetensors", "eval.jsonl"])
def test_a_file_of_cleaning_is_known_by_its_content(mixture, tmp_path, name):
    with_cleaning(mixture)
    out, size = prepare_inline(mixture, tmp_path / "out"), (mixture.parent / name).stat().st_size
    assert prepare_inline(mixture, out)
    if name == "q.safetensors":
        Classifier(np.zeros(FEATURES, np.float32), 8.0, {}).save(mixture.parent / name)
    else:
        damage(mixture.parent / name, lambda c: c.replace(b"three", b"seven"))
    assert (mixture.parent / name).stat().st_size == size
    with pytest.raises(ConfigError, match=f"{name}: .* before, .* now"):
        prepare_inline(mixture, out)


# ---- copies among sources of several kinds


SOURCE = """
[[source]]
name = "{name}"
weight = "1/2"
files = ["{files}/*.lines"]
[source.clean]
deduplicate = "{kind}"
"""


@pytest.mark.parametrize("kinds", [("exact", "fuzzy"), ("fuzzy", "exact"), ("fuzzy", "fuzzy"), ("exact", "exact")])
def test_a_copy_is_found_whatever_the_kinds_of_the_sources(mixture, tmp_path, kinds):
    pytest.importorskip("datasketch")
    texts = [text for text in documents(60, seed=8) if len(text.split()) > 9]
    for name, lines in (("one", texts[:20]), ("two", [*texts[:20], texts[20]])):
        (mixture.parent / name).mkdir()
        (mixture.parent / name / "a.lines").write_text("\n".join(lines), "utf-8")
    tables = [SOURCE.format(name=n, files=n, kind=kind) for n, kind in zip(("one", "two"), kinds, strict=True)]
    mixture.write_text("validation = 0.2\n" + "".join(tables))
    report = json.loads((prepare_inline(mixture, tmp_path / "out") / "report.json").read_bytes())
    assert [sum(report[n][split]["documents"] for split in ("train", "val")) for n in report] == [20, 1]


# ---- where the files are


def test_token_files_seen_from_a_folder_behind_a_link(mixture, tmp_path):
    prepare_inline(mixture, tmp_path / "first")
    (tmp_path / "far" / "away" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away" / "real")
    edit(mixture, ('files = ["web/*.lines"]', 'shards = ["../first/web/train*.bin"]'))
    prepare_inline(mixture, tmp_path / "link")
    assert len(Dataset(tmp_path / "link").train()["web"][1]) > 0


# ---- the raw files are gone


@pytest.fixture
def bare(mixture, tmp_path):
    """A finished dataset without its raw files."""
    out = prepare_inline(mixture, tmp_path / "out")
    (mixture.parent / "web").rename(mixture.parent / "away")
    return out


def test_without_raw_files_a_finished_one_is_left_as_it_is(mixture, bare, capsys):
    before, executor = contents(bare), Inline()
    assert prepare_inline(mixture, bare, executor) == bare
    assert contents(bare) == before
    assert executor.submitted == 0
    assert "raw files are gone, so only the mixture file was compared" in capsys.readouterr().out
    edit(mixture, ('"1/2"', '"1/8"'), ('"1/4"', '"7/16"'))
    prepare_inline(mixture, bare)
    assert "source books: weight 1/2 before, 1/8 now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("tokenizer", "validation", 'tokenizer = "char"\nvalidation'),
        ("validation", "validation = 0.2", "validation = 0.3"),
        ("shard_tokens", "shard_tokens = 10000", "shard_tokens = 999"),
        ("clean, deduplicate", '"exact"', '"none"'),
        ("clean, rules", "[clean]", '[clean]\nrules = ["c4"]'),
        ("files", '"more/*.lines"', '"books/*.lines"'),
        ("format", 'name = "web"', 'name = "web"\nformat = "lines"'),
        ("sources, web", 'name = "web"', 'name = "internet"'),
    ],
)
def test_without_raw_files_other_settings_are_refused(mixture, bare, key, old, new):
    edit(mixture, (old, new))
    before = contents(bare)
    with pytest.raises(ConfigError, match=f"{key}.*: .* before, .* now"):
        prepare_inline(mixture, bare)
    assert contents(bare) == before


@pytest.mark.parametrize("restart", [False, True])
def test_without_raw_files_nothing_can_be_made(mixture, bare, restart):
    if not restart:
        (bare / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"source web: no file matches 'web/\*\.lines'"):
        prepare_inline(mixture, bare, restart=restart)


# ---- sources that are not begun yet


def test_a_source_that_is_not_begun_may_be_another(mixture, tmp_path, monkeypatch):
    begun(mixture, tmp_path / "out", monkeypatch)
    (mixture.parent / "more" / "a.lines").write_text("other texts\nthan they were\n" * 9)
    edit(mixture, ('name = "more"', 'name = "others"'))
    (tmp_path / "out" / "more").mkdir()
    (tmp_path / "out" / "more" / "train_000000.bin.partial").write_bytes(b"of before")
    rest = Inline()
    whole = prepare_inline(mixture, tmp_path / "whole")
    assert contents(prepare_inline(mixture, tmp_path / "out", rest)) == contents(whole)
    assert not (tmp_path / "out" / "more").exists()
    again = Inline()
    prepare_inline(mixture, whole, again, restart=True)
    assert rest.submitted < again.submitted


# ---- how much damage stops it


@pytest.mark.parametrize("allowed", [0.001, 0.01, 0.1])
def test_chance_does_not_stop_what_the_end_would_pass(allowed):
    """With half the allowed share, repeated checks stop none of 200 runs; with four times the share, all."""
    stopped = []
    for share in (allowed / 2, 4 * allowed):
        damaged = np.random.default_rng(0).random((200, 20_000)) < share
        damaged = damaged.cumsum(axis=1)
        some = [1, 10, 100, 500, *range(1000, 20_001, 250)]
        stops = [any(too_damaged(n, row[n - 1], 1, 0, allowed, False) for n in some) for row in damaged]
        stopped.append(sum(stops))
    assert stopped[0] == 0
    assert stopped[1] == 200


@pytest.mark.parametrize(
    ("records", "damaged", "allowed", "before", "after"),
    [
        (9, 9, 0.01, False, True),
        (10, 10, 0.01, True, True),
        (10_000, 129, 0.01, False, True),  # 100 + 3 √99 = 129.8
        (10_000, 130, 0.01, True, True),
        (10_000, 100, 0.01, False, False),
        (0, 0, 0.0, False, False),
        (99, 1, 0.0, True, True),
    ],
)
def test_a_clear_excess_stops_and_at_the_end_the_share(records, damaged, allowed, before, after):
    assert too_damaged(records, damaged, 1, 0, allowed, ended=False) == before
    assert too_damaged(records, damaged, 1, 0, allowed, ended=True) == after


def test_bytes_that_were_lost_stop_it_at_once():
    """However few records are affected."""
    assert too_damaged(1000, 1, 10_000, 101, 0.01, ended=False)
    assert not too_damaged(1000, 1, 10_000, 100, 0.01, ended=True)


# ---- what is told at the end


def test_a_source_with_nothing_held_out_is_warned_of(mixture, tmp_path, capsys):
    first = prepare_inline(mixture, tmp_path / "first")
    assert "warning" not in capsys.readouterr().out
    (mixture.parent / "more" / "a.lines").write_text(next(t for t in documents(99, 9) if not held_out(t, 0.2)), "utf-8")
    edit(mixture, ('files = ["web/*.lines"]', 'shards = ["../first/web/train*.bin"]'))
    prepare_inline(mixture, tmp_path / "second")
    told = capsys.readouterr().out
    assert "source web: no validation tokens; name `validation_shards`" in told
    assert "source more: no validation tokens; raise `validation`" in told
    assert "source books: no validation" not in told
    assert first


def test_the_epochs_of_gpt3s_sources_are_told(mixture, tmp_path, capsys):
    table = '[[source]]\nname = "{}"\nfiles = ["{}/*.lines"]\n'
    mixture.write_text(
        'preset = "gpt3"\ndamage = 0.5\n' + table.format("wikipedia", "books") + table.format("books1", "more")
    )
    prepare_inline(mixture, tmp_path / "out")
    assert "commoncrawl 0.43, webtext2 3.4, books1 2, books2 0.43, wikipedia 3\n" in capsys.readouterr().out


# ---- the lock and the bar


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_used(mixture, tmp_path, monkeypatch, capsys, number):
    fcntl = pytest.importorskip("fcntl", reason="this system has no such locks")

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert prepare_inline(mixture, tmp_path / "out")
    assert f"warning: cannot lock {tmp_path / 'out'}: {os.strerror(number)}" in capsys.readouterr().out


def bars(monkeypatch):
    """A list of the progress bars that are made from now on."""
    made = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            made.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    return made


def test_the_bar_ends_at_its_end_and_goes_on_where_it_was(mixture, tmp_path, monkeypatch):
    first = prepare_inline(mixture, tmp_path / "first")
    synthetic = 'synthetic = { kind = "copy", documents = 400, length = 9 }'
    edit(mixture, ('files = ["web/*.lines"]', synthetic))
    edit(mixture, ('files = ["more/*.lines"]', 'shards = ["../first/web/*.bin"]'))
    made = bars(monkeypatch)
    prepare_inline(mixture, tmp_path / "whole")
    books, shards = (
        sum(path.stat().st_size for path in folder.iterdir()) for folder in (mixture.parent / "books", first / "web")
    )
    [bar] = made
    assert (bar.total, bar.initial) == (books + 400 * 19 + shards, 0)
    assert bar.n == bar.total

    class Stopped(Inline):
        def submit(self, function, job, items):
            if items[0].found.id == "web#1":
                self.submitted = 1000
            if self.submitted > 1009:
                raise RuntimeError("stop")
            return super().submit(function, job, items)

    with pytest.raises(RuntimeError, match="stop"):
        prepare_inline(mixture, tmp_path / "out", Stopped(), workers=1)
    prepare_inline(mixture, tmp_path / "out")
    assert books < made[2].initial < books + 400 * 19
    assert made[2].n == made[2].total == bar.total
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
