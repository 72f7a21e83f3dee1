"""Preparing into a folder with a finished or unfinished dataset, or something else."""

import json
import os
import subprocess
import sys

import pytest
from curate.preparing import begun, edit
from small_mixture import (
    Inline,
    contents,
    prepare_inline,
    tiny_tokenizer,
)

from tinygrad_lm.curate import prepare as module
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import sealed_json

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


@pytest.mark.slow
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
