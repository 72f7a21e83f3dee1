"""Which reader a file gets, and which files are refused."""

import os
import random
import sys

import pyarrow as pa
import pytest
import raw_files
from curate.reading import FILES, read_file, write_file
from invented_texts import FORMS, documents
from make import write_mixture
from pyarrow import parquet

from tinygrad_lm.curate.readers.compression import open_bytes
from tinygrad_lm.curate.readers.formats import FORMATS, format_of, match_files, read_texts
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.data.mixture.mixture_file import load_mixture_config
from tinygrad_lm.errors import DataError

NAMES = {
    "text": ["a.txt", "A.TXT", "a.b.txt.gz"],
    "jsonl": ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "c4-train.00000-of-01024.json.gz", "a.ndjson"],
    "parquet": ["000_00000.parquet"],
    "wet": ["CC-MAIN-20240220211055-20240221001055-00000.warc.wet.gz", "a.wet", "a.wet.gz"],
    "warc": ["CC-MAIN-20240220211055-20240221001055-00000.warc.gz", "a.warc"],
    "wikipedia": [
        "simplewiki-20240201-pages-articles-multistream.xml.bz2",
        "a.xml",
        "a.xml.gz",
        "enwiki-20240201-pages-articles1.xml-p1p41242.bz2",
        "dewiki-latest-pages-articles3.xml-p297013p1262092",
    ],
}


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in NAMES.items() for file in files])
def test_the_suffix_tells_the_format(name, file):
    assert format_of(f"some/folder.txt/{file}").name == name
    assert format_of(file, "gutenberg").name == "gutenberg"


def test_an_unknown_format_is_told_with_all_names():
    for path, name in [("a.pdf", None), ("a.gz", None), ("a", None), ("a.txt", "word")]:
        with pytest.raises(DataError, match=r"expected one of text, jsonl, .*gutenberg, as `format`") as caught:
            format_of(path, name)
        assert "FORMAT:a" in str(caught.value)
        assert path in str(caught.value)
        assert str(name or path) in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_refused(name, tmp_path):
    path = tmp_path / name
    assert "cannot be read: No such file" in str(read_file(path)[2]) or name.endswith("parquet")
    assert str(path) in str(read_file(path)[2])

    path.mkdir()
    assert str(path) in str(read_file(path)[2])
    path.rmdir()

    path.write_bytes(b"")
    assert read_file(path)[:2] == ([], [])
    assert str(path) in str(read_file(path)[2])

    if path.suffix in (".gz", ".bz2", ".zst"):
        raw_files.write_bytes(path, b"")
        assert "found an empty file" in str(read_file(path)[2])
        path.write_bytes(b"no such thing")
        assert f"expected a {path.suffix} file" in str(read_file(path)[2])


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.warc.wet", b"<html>", "expected a WARC file, which begins with WARC/1.0, found b'<html>'"),
        ("a.warc", b"\n\n", "expected a WARC file"),
        ("a.xml", b"<html></html>", "begins with <mediawiki>, found b'<html></html>'"),
        ("a.xml", b"words", "found b'words'"),
        ("a.parquet", b"PAR1 but no more", "; download it again"),
        (
            "a.json",
            b'[{"text": "a"}, {"text": "b"}]',
            "expected one object per line, found an array; convert it: jq -c .[",
        ),
        ("a.jsonl", b'\xef\xbb\xbf[\n {"text": "a"}\n]', "found an array; convert it"),
        ("a.json", b'{\n "text": "a"\n}', "found one over several lines; convert it: jq -c . FILE"),
    ],
)
def test_a_file_of_another_format_is_refused(name, content, found, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    records, damaged, error = read_file(path)
    assert (records, damaged) == ([], [])
    assert found in str(error)


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_a_table_may_store_its_strings_in_any_way(kind, tmp_path):
    texts = ["é", None, "b", "é"]
    types = {"dictionary": pa.dictionary(pa.int32(), pa.string())}
    array = pa.array(texts, types.get(kind) or getattr(pa, kind)())
    parquet.write_table(pa.table({"text": array}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet") == (["é", "b", "é"], [], None)


def test_a_table_without_texts_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": [1, 2], "url": ["a", "b"]}), path)
    assert (
        "expected a column text of strings, found text: int64, url: string; name the one with the documents by "
        'field = "…" of the source'
    ) in str(read_file(path)[2])
    raw_files.write_parquet(path, [])
    assert "table without rows" in str(read_file(path)[2])


def test_a_row_without_text_and_a_damaged_row_group_are_told(tmp_path):
    path = tmp_path / "a.parquet"
    raw_files.write_parquet(path, ["first", None, "third"])
    assert read_file(path) == (["first", "third"], [], None)

    raw_files.write_parquet(path, [f"text {i}" for i in range(9)], rows=3)
    content = bytearray(path.read_bytes())
    with parquet.ParquetFile(path) as file:
        column = file.metadata.row_group(1).column(0)
    content[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(content)
    found, [damage], _ = read_file(path)
    assert found == [f"text {i}" for i in (0, 1, 2, 6, 7, 8)]
    assert damage.id == "a.parquet#4"
    assert "row group 2, rows 4 to 6" in damage.reason
    assert damage.lost == len(content) // 3


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("a.jsonl.zst", "zstandard"),
        ("a.parquet", "pyarrow"),
        ("a.warc.wet.gz", "warcio"),
        ("a.warc.gz", "warcio"),
        ("a.warc.gz", "resiliparse"),
        ("a.xml", "mwparserfromhell"),
    ],
)
def test_a_missing_library_is_named_with_the_way_to_get_it(name, library, tmp_path, monkeypatch):
    path = write_file(tmp_path, name, ["A text."])
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    found, damaged, error = read_file(path)
    assert (found, damaged) == ([], [])
    assert f"needs the library {library}" in str(error)
    assert "pip install 'tinygrad-lm[data]'" in str(error)


def test_texts_come_from_files_of_any_format(tmp_path):
    names = ["a.jsonl.gz", "a.parquet", "a.warc.wet.gz", "a.warc"]
    paths = [write_file(tmp_path, name, [f"One of {name}", "Two"]) for name in names]
    assert list(read_texts(paths)) == [text for name in names for text in (f"One of {name}", "Two")]


def test_texts_pass_over_damage_and_tell_it(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    fine = '{"text": "fine"}\n'
    path.write_text(fine + '{"text": ""}\n' + '{"text"\n' * 7 + fine)
    assert list(read_texts([path])) == ["fine", "fine"]
    *told, more = capsys.readouterr().err.splitlines()
    assert [line.partition(": expected JSON")[0] for line in told] == [
        f"damaged: data file {path}: record a.jsonl#{line}" for line in range(3, 8)
    ]
    assert more == f"damaged: data file {path}: 2 more"


def test_texts_stop_at_too_much_damage(tmp_path):
    path = tmp_path / "a.jsonl"
    fine, bad = '{"text": "fine"}\n', '{"text"\n'
    path.write_text(fine * 198 + bad * 2)
    assert len(list(read_texts([path]))) == 198
    path.write_text(fine * 197 + bad * 3 + fine)
    with pytest.raises(DataError, match=r"a.jsonl#200: expected JSON(.|\n)*3 of 201 records are damaged"):
        list(read_texts([path]))
    with pytest.raises(DataError, match="1 of 198 records"):
        list(read_texts([path], damage=0))
    path.write_text(bad)
    with pytest.raises(DataError, match=r"1 of 1 records are damaged(.|\n)*--field names"):
        list(read_texts([path]))


@pytest.mark.parametrize("count", [50, 500])
def test_texts_stop_at_a_file_of_which_much_is_not_read(count, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    raw_files.write_jsonl(path, [f"text {i} {random.Random(i).random()}" for i in range(count)])
    size = path.stat().st_size // 3
    os.truncate(path, size)
    with pytest.raises(
        DataError, match=rf"is truncated(.|\n)*{size:,} of {size:,} bytes lost(.|\n)*download the files again"
    ):
        list(read_texts([path]))


def test_files_are_found_where_names_have_brackets(tmp_path):
    for folder in ("g[1]", "g1"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        for name in ("b.txt", "a.txt", "sub/c.txt", "[x].txt"):
            (tmp_path / folder / name).write_text(folder)
    assert match_files("*.txt", tmp_path / "g[1]") == ["[x].txt", "a.txt", "b.txt"]
    assert match_files("**/*.txt", tmp_path / "g[1]") == ["[x].txt", "a.txt", "b.txt", "sub/c.txt"]
    assert match_files("[x].txt", tmp_path / "g1") == ["[x].txt"]
    assert match_files("s*", tmp_path / "g1") == []
    assert match_files(str(tmp_path / "g1" / "a*")) == [str(tmp_path / "g1" / "a.txt")]
    assert list(read_texts([tmp_path / "g[1]" / "a.txt"])) == ["g[1]"]


def test_a_compressed_file_may_hide_its_suffix(tmp_path):
    path = tmp_path / "a.jsonl"
    raw_files.write_jsonl(tmp_path / "a.jsonl.gz", ["text"])
    (tmp_path / "a.jsonl.gz").rename(path)
    assert read_file(path) == (["text"], [], None)


def test_several_members_are_one_file(tmp_path):
    for suffix in (".gz", ".bz2", ".zst"):
        path, whole = tmp_path / f"a{suffix}", b""
        for part in (b"one", b"", b"two" * 100_000):
            raw_files.write_bytes(path, part)
            whole += path.read_bytes()
        path.write_bytes(whole)
        with open_bytes(path) as stream:
            assert stream.read() == b"one" + b"two" * 100_000
            assert stream.damage is None
        path.write_bytes(whole + b"rubbish, and more of it")
        with open_bytes(path) as stream:
            assert stream.read() == b"one" + b"two" * 100_000
            assert "damaged" in stream.damage or "is truncated" in stream.damage


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("zeros", [0, 512, 700, 5000])
@pytest.mark.parametrize("rest", [b"", b"12 othe", b"B"], ids=["nothing", "some bytes", "half a beginning"])
def test_what_fills_a_file_after_its_last_member(suffix, zeros, rest, tmp_path):
    """Tapes fill their blocks with zeros. gzip and bzip2 ignore a few other bytes, too; zstd does not."""
    path = tmp_path / f"a{suffix}"
    for part in (b"one", b"two" * 100_000):
        raw_files.write_bytes(tmp_path / f"part{suffix}", part)
        with open(path, "ab") as file:
            file.write((tmp_path / f"part{suffix}").read_bytes() + bytes(zeros))
    with open(path, "ab") as file:
        file.write(rest)
    with open_bytes(path) as stream:
        assert stream.read() == b"one" + b"two" * 100_000
        assert bool(stream.damage) == (rest != b"" and (suffix == ".zst" or (suffix == ".bz2" and rest == b"B")))


@pytest.mark.parametrize("log", [27, 28, 31])
def test_a_frame_with_a_long_window(log, tmp_path):
    """As `zstd --long=31` writes them; the header of a frame without a checksum and a size, whose window is 2^log."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, (log - 10) << 3]) + b"\x19\x00\x00abc"  # one raw block, the last
    (tmp_path / "a.zst").write_bytes(frame)
    with open_bytes(tmp_path / "a.zst") as stream:
        assert stream.read() == b"abc"
        assert stream.damage is None


def test_the_example_mixture_is_read_whole(tmp_path):
    """Four kinds of documents in four formats come back as they were written."""
    mixture = load_mixture_config(write_mixture(tmp_path, count=20))
    found = {}
    for source in mixture.sources:
        for path in sorted(tmp_path.glob(*source.files)) if source.files else ():
            format = format_of(path, source.format)
            for record in format.read_records(path):
                assert not isinstance(record, Damaged)
                found.setdefault(source.name, []).append(format.extract_text(record.content))
    kinds = {kind: documents(kind, 40 if kind == "web" else 20) for kind in FORMS}
    assert found["web"] == kinds["web"]
    assert found["papers"] == kinds["papers"]
    assert found["wikipedia"] == [f"Article {i}\n\n{text}" for i, text in enumerate(kinds["wikipedia"])]
    assert found["books"] == ["\n\n\n".join(kinds["books"][:10]), "\n\n\n".join(kinds["books"][10:])]
    assert set(FORMATS) == {*NAMES, "gutenberg"}


def test_a_format_in_front_of_a_path(tmp_path):
    """For files whose names do not imply it; a colon in a file's name is not a format."""
    write_mixture(tmp_path, count=20)
    books = documents("books", 20)
    assert list(read_texts([f"gutenberg:{tmp_path}/books/*.txt"])) == [
        "\n\n\n".join(books[:10]),
        "\n\n\n".join(books[10:]),
    ]
    assert all("Project Gutenberg" in text for text in read_texts([tmp_path / "books" / "*.txt"]))
    raw_files.write_text(tmp_path / "at 10:30.txt", "now")
    assert list(read_texts([tmp_path / "at 10:30.txt"])) == ["now"]
