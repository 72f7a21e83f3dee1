"""A small mixture, its tokenizer, and the dataset of an uninterrupted run."""

import pytest
from small_mixture import (
    contents,
    prepare_inline,
    set_up,
    tiny_tokenizer,
    write_mixture,
)


@pytest.fixture
def mixture(tmp_path, monkeypatch):
    """The small mixture's file."""
    set_up(monkeypatch, tmp_path)
    return write_mixture(tmp_path / "raw")


@pytest.fixture
def tokenizer(tmp_path):
    return tiny_tokenizer(tmp_path / "vocabulary")


@pytest.fixture
def undisturbed(mixture, tmp_path):
    return contents(prepare_inline(mixture, tmp_path / "undisturbed"))
