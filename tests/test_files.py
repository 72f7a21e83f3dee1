"""A file is whole or not there, and a write that fails leaves nothing behind."""

import errno
import os

import pytest

from tinygrad_lm.files import nearest, replace, replacing


def test_what_is_written_takes_the_place(tmp_path):
    path = tmp_path / "a.txt"
    replace(path, b"old")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(before, error, tmp_path, monkeypatch):
    def fail(descriptor):
        raise error

    path = tmp_path / "a.txt"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        replace(path, b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])


def test_the_suffix_stays_for_those_who_write_by_it(tmp_path):
    with replacing(tmp_path / "a.b.svg") as temporary:
        assert temporary.suffix == ".svg"
        assert temporary != tmp_path / "a.b.svg"
        temporary.write_text("picture")
    assert (tmp_path / "a.b.svg").read_text() == "picture"


def test_what_is_there_is_not_misspelt(tmp_path):
    for name in ("run", "runs"):
        (tmp_path / name).mkdir()
    assert nearest(tmp_path / "run") == ""
    assert nearest(tmp_path / "rum") == f"; did you mean {tmp_path}/run or {tmp_path}/runs?"
