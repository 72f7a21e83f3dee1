"""Files larger than the memory: a reader holds one record at a time, whatever the file contains."""

import io
import json
import random
import tracemalloc
from concurrent.futures import Future

import pytest
import raw_files
from curate.reading import extract_once, read_file
from slow import first_of_each, slow_but

from tinygrad_lm.curate.pipeline.batches import (
    BATCH_SIZE,
    RECORD_OVERHEAD,
    items_from_texts,
    make_batches,
    map_in_order,
)
from tinygrad_lm.curate.readers import json_lines, plain, warc, wikipedia
from tinygrad_lm.curate.readers.compression import Members, open_bytes
from tinygrad_lm.curate.readers.formats import format_of
from tinygrad_lm.curate.readers.record import Damaged

MB = 10**6


def peak(function):
    """The most memory that Python held at once while it ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def noise(size):
    """Letters that compress badly."""
    return "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz ", k=size))


@pytest.mark.parametrize(
    ("name", "write"),
    first_of_each(
        [
            ("a.jsonl", raw_files.write_jsonl),
            ("a.jsonl.gz", raw_files.write_jsonl),
            ("a.jsonl.zst", raw_files.write_jsonl),
            ("a.jsonl.bz2", raw_files.write_jsonl),
            ("a.parquet", raw_files.write_parquet),
            ("a.warc.wet.gz", raw_files.write_wet),
            ("a.warc", raw_files.write_warc),
            ("a.xml", raw_files.write_wikipedia),
        ],
        lambda row: "file",
    ),
)
def test_a_file_is_not_read_whole(name, write, tmp_path):
    """3 MB of documents of 1 kB never are in memory at once."""
    path, text = tmp_path / name, noise(1000)
    write(path, [text] * 3_000)
    format, counts = format_of(path), []

    def run():
        for record in format.read_records(path):
            assert not isinstance(record, Damaged)
            counts.append(len(record.id))

    next(iter(format.read_records(path)))  # imports the reader's libraries, which would count
    assert peak(run) < 1.5 * MB
    assert len(counts) == 3_000


def test_a_text_is_not_read_whole(tmp_path):
    """Of 15 MB a few pieces are in memory at once."""
    path, sizes = tmp_path / "a.txt", []
    raw_files.write_text(path, "\n".join([noise(1000)] * 15_000))
    assert peak(lambda: sizes.extend(len(record.content) for record in plain.plain_records(path))) < 5 * MB
    assert sum(sizes) == path.stat().st_size


def test_the_first_record_needs_the_first_bytes_alone(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    raw_files.write_jsonl(path, [noise(1000)] * 10_000)
    asked = []

    class Counting(io.BufferedReader):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    with Counting(io.FileIO(path)) as file:
        stream = io.BufferedReader(Members(file, ".gz"), 2**16)
        stream.readline()
        assert 0 < sum(asked) <= 2**16


@pytest.mark.parametrize("suffix", slow_but([".gz", ".bz2", ".zst"], ".zst"))
def test_a_file_that_unpacks_to_no_end_takes_bounded_memory(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    raw_files.write_bytes(path, bytes(100 * MB))
    assert path.stat().st_size < MB

    def run():
        with open_bytes(path) as stream:
            assert sum(len(block) for block in iter(lambda: stream.read(2**16), b"")) == 100 * MB

    assert peak(run) < 80 * MB


@pytest.fixture
def small(monkeypatch):
    """Readers for which 10 kB is the largest record."""
    for module in (json_lines, warc, wikipedia):
        monkeypatch.setattr(module, "LARGEST_RECORD", 10_000)
    monkeypatch.setattr(plain, "PIECE", 10_000)
    return 10_000


def test_a_line_that_is_too_long_is_passed_over(small, tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}) for text in ("before", "x" * 5 * MB, "after")]
    path.write_text("\n".join(lines))
    texts, [damage], _ = read_file(path)
    assert texts == ["before", "after"]
    assert damage == Damaged("a.jsonl#2", "a line of more than 10,000 bytes", lost=len(lines[1]) + 1)
    path.write_text("\n".join(lines[:2]))
    assert len(read_file(path)[1]) == 1

    exact = json.dumps({"text": "x" * (small - len('{"text": ""}'))})
    path.write_text(f'{exact[:-2]}x"}}\n{exact}')
    texts, [damage], _ = read_file(path)
    assert (len(texts), damage.id) == (1, "a.jsonl#1")


@pytest.mark.slow
def test_an_archive_s_record_that_is_too_long_is_passed_over(small, tmp_path):
    for name in ("a.warc.wet", "a.warc.wet.gz"):
        path = tmp_path / name
        raw_files.write_wet(path, ["before", "a line\n" * MB, "after"])
        texts, [damage], _ = read_file(path)
        assert texts == ["before", "after"]
        assert (damage.id, damage.reason) == (f"{name}#3", "a record of 7,000,000 bytes, more than 10,000")
        assert 0.9 * path.stat().st_size < damage.lost < path.stat().st_size
    path = tmp_path / "a.warc.wet"
    path.write_bytes(
        path.read_bytes().replace(b"Content-Length: 6\r\n", b"Content-Length: 9" + b"9" * 5000 + b"\r\n", 1)
    )
    assert read_file(path)[0] == ["after"]
    path.write_bytes(b"WARC/1.0\r\n" + b"a: b\r\n" * 20_000)
    assert "its header does not end within 65,5" in read_file(path)[1][0].reason


def test_a_page_that_is_too_long_is_passed_over(small, tmp_path):
    path = tmp_path / "a.xml"
    raw_files.write_dump(path, [("A", 0, "before", None), ("B", 0, "long " * MB, None), ("C", 0, "after", None)])
    texts, [damage], _ = read_file(path)
    assert texts == ["A\n\nbefore", "C\n\nafter"]
    assert (damage.id, damage.reason) == ("a.xml#2", "more than 10,000 bytes without a <page>")
    assert 5 * MB < damage.lost < path.stat().st_size
    assert peak(lambda: list(wikipedia.article_records(path))) < 2 * MB


@pytest.mark.parametrize("between", [("<!--", "-->"), ("<page a='", "'/>")])
def test_a_tag_without_end_is_not_kept(between, small, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(raw_files.SITE + between[0] + "x" * 20 * MB + between[1] + "</mediawiki>")
    [damage] = wikipedia.article_records(path)
    assert damage.reason == "more than 10,000 bytes without a <page>"
    assert peak(lambda: list(wikipedia.article_records(path))) < 2 * MB


@pytest.mark.parametrize("unit", ["a line\n", "字", "x", "\n"])
def test_a_long_text_comes_in_pieces(unit, small, tmp_path):
    path = tmp_path / "a.txt"
    text = (unit * 50_000)[:30_500]
    raw_files.write_text(path, text)
    pieces = [extract_once(format_of(path), record.content) for record in plain.plain_records(path)]
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert all(len(piece.encode()) <= small for piece in pieces)
    assert unit != "a line\n" or all(piece.endswith("\n") for piece in pieces[:-1])
    raw_files.write_text(path, "x" * small)
    assert len(list(plain.plain_records(path))) == 1


def test_a_text_is_cut_at_an_empty_line_where_there_is_one(small, tmp_path):
    path = tmp_path / "a.txt"
    raw_files.write_text(path, ("x" * 99 + "\n") * 70 + "\n" + ("y" * 99 + "\n") * 100)
    pieces = [record.content for record in plain.plain_records(path)]
    assert pieces[0].endswith(b"x\n\n")
    assert b"x" not in pieces[1]


@pytest.mark.slow
def test_few_bytes_are_under_way_where_records_are_long():
    """At most `ahead` batches are in flight, and fewer large ones."""

    class Held:
        most = held = batches = 0

        def submit(self, function, argument, items):
            size = sum(len(item.found.content) for item in items)
            self.held, self.batches = self.held + size, self.batches + 1
            self.most = max(self.most, self.held)
            future = Future()
            future.set_result(size)
            return future

    for size, bound in (
        (100, 5 * BATCH_SIZE * 1.1),
        (BATCH_SIZE, 5 * BATCH_SIZE),
        (3 * BATCH_SIZE, 10 * BATCH_SIZE),
        (20 * BATCH_SIZE, 20 * BATCH_SIZE),
    ):
        texts, executor = ["x" * size] * max(20, 10 * BATCH_SIZE // (size + RECORD_OVERHEAD)), Held()
        for _, done in map_in_order(executor, 5, None, None, make_batches(items_from_texts("a", texts))):
            executor.held -= done
        assert executor.held == 0
        assert bound / 3 < executor.most <= bound
