"""Files that were cut short, at every byte, or have flipped bytes: what is whole is read, what is not is told."""

import os
import random
from itertools import pairwise

import pytest
from curate.reading import FILES, as_read, read, write

from tinygrad_lm.curate.readers.compression import PIECE

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
    assert read(write(tmp_path, name, DOCUMENTS)) == (as_read(name, DOCUMENTS), [], None)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_anywhere_says_so(name, tmp_path):
    path = write(tmp_path, name, DOCUMENTS)
    content, whole = path.read_bytes(), as_read(name, DOCUMENTS)
    silent = []
    for cut in reversed(range(len(content))):
        os.truncate(path, cut)
        texts, damaged, error = read(path)
        assert len(damaged) + (error is not None) <= 1, f"cut at {cut}: {damaged} {error}"
        if name != "a.txt":
            assert texts == whole[: len(texts)], f"cut at {cut}"
        if not damaged and not error and texts != whole:
            silent.append(cut)
    assert len(silent) <= ENDS_ANYWHERE.get(name, 0), silent


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_end_in_nothing_but_records_and_damage(name, tmp_path):
    """They are not seen everywhere, but always where the format has checksums."""
    path = write(tmp_path, name, DOCUMENTS)
    content, whole = path.read_bytes(), as_read(name, DOCUMENTS)
    seed = random.randrange(2**32)  # other bytes in each run
    dice = random.Random(seed)
    for i in range(200):
        flipped = bytearray(content)
        for _ in range(dice.randint(1, 3)):
            flipped[dice.randrange(len(flipped))] ^= dice.randint(1, 255)
        with open(path, "r+b") as file:
            file.write(flipped)
        texts, damaged, error = read(path)
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
    path = write(tmp_path, name, documents)
    before, after = SPOILED[name]
    assert path.read_bytes().count(before) == 1
    path.write_bytes(path.read_bytes().replace(before, after))
    texts, damaged, error = read(path)
    assert (texts, len(damaged), error) == (documents[:5] + documents[6:], 1, None)


@pytest.mark.parametrize("name", ["a.warc.wet.gz", "a.warc.gz"])
def test_a_damaged_member_of_an_archive_is_lost_alone(name, tmp_path):
    documents = [f"Text {i}, of some words." for i in range(10)]
    path = write(tmp_path, name, documents)
    content = path.read_bytes()
    members = [at for at in range(len(content)) if content.startswith(b"\x1f\x8b\x08", at)]
    for start, end in pairwise([*members, len(content)]):
        for at in (start, start + 5, (start + end) // 2, end - 6):  # the magic number, date, data, checksum
            spoiled = bytearray(content)
            spoiled[at] ^= 0x55
            path.write_bytes(spoiled)
            texts, damaged, error = read(path)
            if at == 0:
                assert "expected a .gz file" in str(error)
            elif at != start + 5:
                assert (len(damaged), error) == (1, None), (start, at)
                assert len(texts) >= 9
                assert texts == [text for text in documents if text in texts]


def test_no_record_is_given_before_its_checksum_is_known(tmp_path):
    """The worst case: all of a record has been decompressed when the piece of the file ends, but for the checksum."""
    path = tmp_path / "a.warc.wet.gz"
    for size in range(2000):
        text = "".join(random.Random(size).choices("abcdefgh ", k=size))
        if write(tmp_path, path.name, ["first", text]).stat().st_size % PIECE == 6:
            break
    assert read(path) == (["first", text], [], None)
    spoiled = bytearray(path.read_bytes())
    spoiled[-6] ^= 1  # RFC 1952: four bytes of CRC-32, four of length
    path.write_bytes(spoiled)
    texts, [damage], _ = read(path)
    assert (texts, damage.id) == (["first"], "a.warc.wet.gz#3")
    assert "incorrect data check" in damage.reason


def test_damage_is_told_with_its_place(tmp_path):
    path = write(tmp_path, "a.jsonl", DOCUMENTS)
    path.write_bytes(b'{"text": "fine"}\n\n{"text": 7}\nnot json\n{"body": "b"}\n\xff\n"text"\n{"text": "\\ud800"}\n')
    _, damaged, _ = read(path)
    assert [record.id for record in damaged] == [f"a.jsonl#{line}" for line in (3, 4, 5, 6, 7, 8)]
    assert "expected an object with a text 'text', found {'text': 7}" in damaged[0].reason
    assert "expected JSON" in damaged[1].reason
    assert "found byte 0xff at offset 0" in damaged[3].reason

    path = write(tmp_path, "a.jsonl.gz", DOCUMENTS * 50)
    path.write_bytes(path.read_bytes()[:200])
    _, [damage], _ = read(path)
    assert damage.reason == "the .gz data end in the middle, at byte 200: the file was cut short"

    path = write(tmp_path, "a.xml", DOCUMENTS)
    lines = path.read_text().replace("<ns>1</ns>", "<ns>1</nq>").splitlines()
    path.write_text("\n".join(lines))
    texts, [damage], _ = read(path)
    assert texts == as_read(path.name, DOCUMENTS)[:1]
    wrong = next(i for i, line in enumerate(lines, start=1) if "</nq>" in line)
    assert f"line {wrong}, column" in damage.reason
    assert "mismatched tag" in damage.reason

    path = write(tmp_path, "a.warc.wet", DOCUMENTS)
    path.write_bytes(path.read_bytes().replace(b"Content-Length", b"Content-Langth"))
    _, damaged, _ = read(path)
    assert [record.id for record in damaged] == ["a.warc.wet#1", "a.warc.wet#2", "a.warc.wet#3"]
    assert damaged[1].reason == "expected a Content-Length, found ''"

    write(tmp_path, "a.warc.wet", ["one", "x" * 1000])
    os.truncate(path, path.stat().st_size - 504)
    _, [damage], _ = read(path)
    assert damage.id == "a.warc.wet#3"
    assert damage.reason == "the file ends after 500 of the record's 1,000 bytes: it was cut short"
