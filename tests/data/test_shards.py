"""Token files: read as written, and files with wrong headers are refused by name."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data import shards
from tinygrad_lm.data.shards import HEADER, Shards, check_shard, shard_header, token_dtype
from tinygrad_lm.errors import DataError

SIZES = {np.dtype("<u2"): 2**16, np.dtype("<u4"): 2**32}


def write(path, ids, dtype="<u2"):
    ids = np.array(ids, dtype)
    path.write_bytes(shard_header(len(ids), ids.dtype) + ids.tobytes())
    return path


@given(st.data())
def test_any_piece_of_any_files_comes_back(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    row, paths = [], []
    for i in range(data.draw(st.integers(0, 4))):
        dtype = data.draw(st.sampled_from(["<u2", "<u4"]))
        part = data.draw(st.lists(st.integers(0, 999), max_size=9))
        paths.append(write(folder / f"{i}.bin", part, dtype))
        row += part
    found = Shards(paths, 1000)
    assert len(found) == len(row)
    start = data.draw(st.integers(0, len(row)))
    count = data.draw(st.integers(0, len(row) - start))
    ids = found.read(start, count)
    assert ids.dtype == np.int32
    assert ids.tolist() == row[start : start + count]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(1, "<u2"), (2**16, "<u2"), (2**16 + 1, "<u4")])
def test_the_size_of_an_id(vocab_size, dtype):
    assert token_dtype(vocab_size) == np.dtype(dtype)


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 4), (4, 0), (2, 2), (0, -1)])
def test_nothing_is_read_beyond_the_end(tmp_path, start, count):
    with pytest.raises(DataError, match="expected a range within 3 tokens"):
        Shards([write(tmp_path / "a.bin", [1, 2, 3])], 10).read(start, count)


@given(st.binary(max_size=HEADER + 20), st.integers(-(2**31), 2**31 - 1))
def test_any_other_file_is_refused(tmp_path_factory, content, count):
    """Random bytes, and true headers that lie about the number of tokens."""
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"any\.bin"):
        check_shard(path)
    head = np.frombuffer(shard_header(0, np.dtype("<u2")), "<i4").copy()
    head[2] = count
    path.write_bytes(head.tobytes() + content)
    if len(content) != 2 * count:
        with pytest.raises(DataError, match=r"any\.bin: its header says"):
            check_shard(path)
    else:
        assert check_shard(path) == (np.dtype("<u2"), count)


@pytest.mark.parametrize("place", [0, 1, 4])
def test_an_id_outside_the_vocabulary_is_found_where_it_is(tmp_path, place):
    ids = [0, 1, 2, 3, 4]
    ids[place] = 9
    path = write(tmp_path / "a.bin", ids)
    found = Shards([path], 9)
    with pytest.raises(DataError, match=f"token {place} is 9, expected ids below 9"):
        found.read(0, 5)
    assert found.read(0, place).tolist() == ids[:place]


def test_an_id_that_no_int32_holds_is_refused_too(tmp_path):
    path = write(tmp_path / "a.bin", [2**31 + 5], "<u4")
    with pytest.raises(DataError, match=f"is {2**31 + 5}"):
        Shards([path], 100_000).read(0, 1)


def test_a_file_that_is_cut_short_meanwhile_is_an_error(tmp_path):
    """A memory map would kill the process."""
    path = write(tmp_path / "a.bin", range(100))
    found = Shards([path], 1000)
    os.truncate(path, HEADER + 50)
    assert found.read(0, 25).tolist() == list(range(25))
    with pytest.raises(DataError, match=r"a\.bin: expected 20 bytes .* found 10; the file is truncated"):
        found.read(20, 10)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    good, odd = write(tmp_path / "good.bin", [1]), write(tmp_path / "odd.bin", [1])
    odd.write_bytes(odd.read_bytes() + b"1")
    with pytest.raises(DataError) as caught:
        Shards([good, odd, tmp_path / "none.bin"], 10)
    message = str(caught.value)
    assert "odd.bin: its header says 1 tokens" in message
    assert "none.bin: cannot be read: No such file" in message
    assert "good.bin" not in message


def test_reading_a_place_costs_that_place_only(tmp_path, monkeypatch):
    path = write(tmp_path / "a.bin", range(1000))
    found, asked = Shards([path], 1000), []
    pread = shards.read_exactly
    monkeypatch.setattr(
        shards, "read_exactly", lambda path, offset, size: asked.append(size) or pread(path, offset, size)
    )
    found.read(500, 7)
    assert asked == [14]
