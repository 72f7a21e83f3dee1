"""Files truncated at every byte, or with flipped bytes: intact records are read, damaged ones reported."""

import bz2
import gzip
import os
import random
from itertools import pairwise

import pytest
import raw_files
from curate.reading import FILES, as_read, read_file, write_file
from slow import slow_but

from tinygrad_lm.curate.readers.compression import PIECE, open_bytes

DOCUMENTS = ["Wörds of a first text.\n\nAnd a second paragraph.", "The last one — it ends."]
# A shorter file is as good a one: {name: the number of places where it can be cut without being seen}. JSON lines
# between lines, and before the end of one; archives between records. Of a text, nobody knows how long it was to be.
ENDS_ANYWHERE = {
    "a.txt": len("".join(DOCUMENTS).encode()),
    "a.jsonl": 2 * len(DOCUMENTS) - 2,
    "a.warc.wet": 1 + len(DOCUMENTS) - 1,
    "a.warc.wet.gz": 1 + len(DOCUMENTS) - 1,
    "a.warc": 1 + 3 * len(DOCUMENTS) - 2,
    "a.warc.gz": 1 + 3 * len(DOCUMENTS) - 2,
}


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_read_without_complaint(name, tmp_path):
    assert read_file(write_file(tmp_path, name, DOCUMENTS)) == (as_read(name, DOCUMENTS), [], None)


@pytest.mark.parametrize("name", slow_but(FILES, *list(FILES)[:3]))
def test_a_file_cut_short_anywhere_says_so(name, tmp_path):
    path = write_file(tmp_path, name, DOCUMENTS)
    content, whole = path.read_bytes(), as_read(name, DOCUMENTS)
    silent = []
    for cut in reversed(range(len(content))):
        os.truncate(path, cut)
        texts, damaged, error = read_file(path)
        assert len(damaged) + (error is not None) <= 1, f"cut at {cut}: {damaged} {error}"
        if name != "a.txt":
            assert texts == whole[: len(texts)], f"cut at {cut}"
        if not damaged and not error and texts != whole:
            silent.append(cut)
    assert len(silent) <= ENDS_ANYWHERE.get(name, 0), silent


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_end_in_nothing_but_records_and_damage(name, tmp_path):
    """They are detected where the format has checksums."""
    path = write_file(tmp_path, name, DOCUMENTS)
    content, whole = path.read_bytes(), as_read(name, DOCUMENTS)
    seed = random.randrange(2**32)  # other bytes in each run
    dice = random.Random(seed)
    for i in range(200):
        flipped = bytearray(content)
        for _ in range(dice.randint(1, 3)):
            flipped[dice.randrange(len(flipped))] ^= dice.randint(1, 255)
        with open(path, "r+b") as file:
            file.write(flipped)
        texts, damaged, error = read_file(path)
        if name.endswith((".gz", ".bz2", ".zst", ".parquet")):
            assert texts == whole or damaged or error, f"seed {seed}, file {i}"


# Where damage in the middle of a file loses one record alone: (file, bytes of it, what becomes of them)
SPOILED = {
    "a.jsonl": (b'{"text": "Text 5', b'{"text" "Text 5'),
    "a.warc.wet": (b"Content-Length: 22\r\n\r\nText 5", b"Content-Length: 2x\r\n\r\nText 5"),
    "a.warc": (b"Text 5", b"Text five"),  # longer than its Content-Length says
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_damaged_record_is_lost_alone(name, tmp_path):
    documents = [f"Text {i}, of some words." for i in range(10)]
    path = write_file(tmp_path, name, documents)
    before, after = SPOILED[name]
    assert path.read_bytes().count(before) == 1
    path.write_bytes(path.read_bytes().replace(before, after))
    texts, damaged, error = read_file(path)
    assert (texts, len(damaged), error) == (documents[:5] + documents[6:], 1, None)


@pytest.mark.parametrize("name", ["a.warc.wet.gz", "a.warc.gz"])
def test_a_damaged_member_of_an_archive_is_lost_alone(name, tmp_path):
    documents = [f"Text {i}, of some words." for i in range(10)]
    path = write_file(tmp_path, name, documents)
    content = path.read_bytes()
    members = [at for at in range(len(content)) if content.startswith(b"\x1f\x8b\x08", at)]
    for start, end in pairwise([*members, len(content)]):
        for at in (start, start + 5, (start + end) // 2, end - 6):  # the magic number, date, data, checksum
            spoiled = bytearray(content)
            spoiled[at] ^= 0x55
            path.write_bytes(spoiled)
            texts, damaged, error = read_file(path)
            if at == 0:
                assert "expected a .gz file" in str(error)
            elif at != start + 5:
                assert (len(damaged), error) == (1, None), (start, at)
                assert len(texts) >= 9
                assert texts == [text for text in documents if text in texts]


def members(path, write, documents, count):
    """Write a file of this many members, with a part of the documents in each. Returns where they begin."""
    size, places, content = len(documents) // count, [], b""
    for i in range(count):
        write(path, documents[i * size : (i + 1) * size])
        places.append(len(content))
        content += path.read_bytes()
    path.write_bytes(content)
    return places


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_reading_goes_on_at_the_next_member(suffix, tmp_path):
    """The third of twenty members is damaged near its beginning: 5 % of the file are lost and reported."""
    path, dice = tmp_path / f"a.jsonl{suffix}", random.Random(1)
    documents = ["".join(dice.choices("abcdefgh ", k=200)) for _ in range(2000)]
    places = members(path, raw_files.write_jsonl, documents, 20)
    spoiled = bytearray(path.read_bytes())
    spoiled[places[2] + 20 : places[2] + 60] = b"\xff" * 40
    path.write_bytes(spoiled)
    texts, damaged, error = read_file(path)
    kept = set(texts)
    assert error is None
    assert documents[:200] == texts[:200]
    assert documents[300:] == texts[-1700:]
    assert len(kept & set(documents[200:300])) < 30
    assert 0.035 < sum(one.lost for one in damaged) / len(spoiled) < 0.051
    assert len(damaged) <= 2


def test_bytes_that_look_like_the_beginning_of_a_member_are_none(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"text \x1f\x8b\x08 of a member that is stored as it is", compresslevel=0)[:-8])
    with open_bytes(path) as stream:
        assert stream.read().startswith(b"text")
        assert stream.resume() == path.stat().st_size
        assert "is truncated" in stream.damage


def test_a_piece_of_text_begins_after_the_damage_with_a_line(tmp_path):
    path = tmp_path / "a.txt.gz"
    write_lines = lambda path, lines: raw_files.write_text(path, "".join(lines))
    lines = [f"line {i:04} ünd {random.Random(i).random()}\n" for i in range(3000)]
    places = members(path, write_lines, lines, 3)
    spoiled = bytearray(path.read_bytes())
    spoiled[places[1] + 20] ^= 0xFF
    spoiled[places[1] + 5000 : places[1] + 5040] = b"\xff" * 40
    path.write_bytes(spoiled)
    texts, [damage], error = read_file(path)
    assert (texts, error) == (["".join(lines[2001:])], None)
    assert 0 < damage.lost < len(spoiled) / 3


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("a.txt", "a.jsonl", "a.parquet", "book.txt")])
def test_of_a_file_that_was_cut_short_as_much_is_lost_as_there_is(name, tmp_path):
    path = write_file(tmp_path, name, [f"Text {i}, of some words." for i in range(300)])
    size = path.stat().st_size // 3
    os.truncate(path, size)
    _, damaged, error = read_file(path)
    assert error is None
    assert [one.lost for one in damaged] == [size]


def test_a_dump_loses_the_page_that_is_damaged(tmp_path):
    path = tmp_path / "a.xml"
    raw_files.write_dump(path, [(f"T{i}", 0, f"Text {i}.", None) for i in range(400)])
    content, size = path.read_bytes(), path.stat().st_size
    whole = [f"T{i}\n\nText {i}." for i in range(400)]
    path.write_bytes(content.replace(b"<id>200</id>", b"<id>200</ID>"))
    texts, [damage], error = read_file(path)
    assert (texts, error, damage.id) == (whole[:199] + whole[200:], None, "a.xml#200")
    assert damage.lost < size / 200

    path.write_bytes(content[: size // 4] + bytes(size // 2) + content[-size // 4 :])  # an unreadable place of the disk
    texts, [damage], error = read_file(path)
    assert (texts, error) == (whole[: len(texts) // 2] + whole[-(len(texts) - len(texts) // 2) :], None)
    assert 190 < len(texts) < 200
    assert 0.5 < damage.lost / size < 0.51


def test_a_dump_goes_on_at_the_next_member(tmp_path):
    """Dumps come as bzip2 streams of a hundred pages."""
    path = tmp_path / "a.xml.bz2"
    raw_files.write_dump(tmp_path / "a.xml", [(f"T{i}", 0, f"Text {i}.", None) for i in range(300)])
    head, *pages = (tmp_path / "a.xml").read_bytes().split(b"  <page>")
    parts = [head, *(b"".join(b"  <page>" + page for page in pages[i : i + 100]) for i in (0, 100, 200))]
    streams = [bz2.compress(part) for part in parts]
    streams[2] = streams[2][:100] + bytes(20) + streams[2][120:]
    path.write_bytes(b"".join(streams))
    texts, [damage], error = read_file(path)
    assert (texts, error) == ([f"T{i}\n\nText {i}." for i in (*range(100), *range(200, 300))], None)
    assert damage.reason.startswith("the .bz2 data are damaged")


@pytest.mark.slow
def test_no_record_is_given_before_its_checksum_is_known(tmp_path):
    """The worst case: a piece of the file ends after a record's data and before its checksum."""
    path = tmp_path / "a.warc.wet.gz"
    for size in range(2000):
        text = "".join(random.Random(size).choices("abcdefgh ", k=size))
        if write_file(tmp_path, path.name, ["first", text]).stat().st_size % PIECE == 6:
            break
    assert read_file(path) == (["first", text], [], None)
    spoiled = bytearray(path.read_bytes())
    spoiled[-6] ^= 1  # RFC 1952: four bytes of CRC-32, four of length
    path.write_bytes(spoiled)
    texts, [damage], _ = read_file(path)
    assert (texts, damage.id) == (["first"], "a.warc.wet.gz#3")
    assert "incorrect data check" in damage.reason


def test_damage_is_told_with_its_place(tmp_path):
    path = write_file(tmp_path, "a.jsonl", DOCUMENTS)
    path.write_bytes(b'{"text": "fine"}\n\n{"text": 7}\nnot json\n{"body": "b"}\n\xff\n"text"\n{"text": "\\ud800"}\n')
    _, damaged, _ = read_file(path)
    assert [record.id for record in damaged] == [f"a.jsonl#{line}" for line in (3, 4, 5, 6, 7)]
    assert "expected an object with a text 'text', found {'text': 7}" in damaged[0].reason
    assert "found {'body': 'b'}; field = 'body' of its source, or --field, names another" in damaged[2].reason
    assert "expected JSON" in damaged[1].reason
    assert "found byte 0xff at offset 0" in damaged[3].reason

    path = write_file(tmp_path, "a.jsonl.gz", DOCUMENTS * 50)
    path.write_bytes(path.read_bytes()[:200])
    _, [damage], _ = read_file(path)
    assert damage.reason == "the .gz data end inside a member, at byte 200: the file is truncated"

    path = write_file(tmp_path, "a.xml", DOCUMENTS)
    lines = path.read_text().replace("<ns>1</ns>", "<ns>1</nq>").splitlines()
    path.write_text("\n".join(lines))
    texts, [damage], _ = read_file(path)
    assert texts == as_read(path.name, DOCUMENTS)  # the talk page between them was damaged
    wrong = next(i for i, line in enumerate(lines) if "</nq>" in line)
    first = max(i for i, line in enumerate(lines[:wrong]) if "<page>" in line)
    assert damage.id == "a.xml#3"
    assert f"line {wrong - first + 1}, column 12 of the page: mismatched tag" in damage.reason

    path = write_file(tmp_path, "a.warc.wet", DOCUMENTS)
    path.write_bytes(path.read_bytes().replace(b"Content-Length", b"Content-Langth"))
    _, damaged, _ = read_file(path)
    assert [record.id for record in damaged] == ["a.warc.wet#1", "a.warc.wet#2", "a.warc.wet#3"]
    assert damaged[1].reason == "expected a Content-Length, found ''"

    write_file(tmp_path, "a.warc.wet", ["one", "x" * 1000])
    os.truncate(path, path.stat().st_size - 504)
    _, [damage], _ = read_file(path)
    assert damage.id == "a.warc.wet#3"
    assert damage.reason == "the file ends after 500 of the record's 1,000 bytes: it is truncated"
