"""A dataset is read as it was written, or refused."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_dataset import CHARACTERS, two_sources, with_end_of_text, write_dataset, write_manifest, write_shard

from tinygrad_lm.data import shards
from tinygrad_lm.data.mixture import dataset
from tinygrad_lm.data.mixture.dataset import Dataset, read_spread
from tinygrad_lm.data.shards import check_shard
from tinygrad_lm.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return two_sources(tmp_path / "prepared")


def change(folder, edit):
    """Change the manifest and seal it again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    write_manifest(folder, manifest)


def refused(folder):
    with pytest.raises(DataError) as caught:
        Dataset(folder)
    message = str(caught.value)
    assert message.startswith(f"dataset {folder}: ")
    return message


def test_what_a_folder_gives(folder):
    data = Dataset(folder)
    cats, sums = data.sources
    assert (cats.name, cats.weight, cats.floor) == ("cats", Fraction(2, 3), None)
    assert (sums.name, sums.weight, sums.floor) == ("sums", Fraction(1, 3), 0.9)
    assert data.tokenizer.fingerprint == CHARACTERS.fingerprint
    assert list(data.train()) == list(data.validation()) == ["cats", "sums"]
    weight, shards = data.train()["cats"]
    assert weight == Fraction(2, 3)
    text = data.tokenizer.decode(shards.read(0, len(shards)).tolist())
    assert len(shards.paths) == 2
    assert text.count("cat") > 20
    weight, tokens = data.validation()["sums"]
    assert weight == Fraction(1, 3)
    assert "+" in data.tokenizer.decode(tokens.tolist())
    assert len(data.validation(50)["sums"][1]) == 50
    assert not np.array_equal(tokens[:50], data.train()["sums"][1].read(0, 50))


def test_weights_are_not_in_the_seal_and_all_else_is(folder):
    before = Dataset(folder).seal
    change(folder, lambda manifest: [manifest["sources"][s].update(weight="1/2") for s in manifest["sources"]])
    data = Dataset(folder)
    assert data.seal == before
    data.weigh({"cats": "1/4", "sums": Fraction(3, 4)})
    assert [weight for weight, _ in data.train().values()] == [Fraction(1, 4), Fraction(3, 4)]
    change(folder, lambda manifest: manifest["sources"]["sums"]["floor"].update(val=0.8))
    assert Dataset(folder).seal != before


def test_the_tokenizer_is_the_folder_s(tmp_path):
    """The dataset may be moved, and the original tokenizer may be gone."""
    pytest.importorskip("tiktoken")
    tokenizer = with_end_of_text(tmp_path / "mine")
    write_dataset(tmp_path / "data", {"a": {"weight": "1", "train": [[256, 1, 2]]}}, tokenizer)
    for path in [*(tmp_path / "mine").iterdir()]:
        path.unlink()
    (tmp_path / "data").rename(tmp_path / "moved")
    data = Dataset(tmp_path / "moved")
    assert data.tokenizer.eot == 256
    assert data.train()["a"][1].read(0, 3).tolist() == [256, 1, 2]


def test_another_vocabulary_is_refused_with_both_named(folder, tmp_path):
    change(folder, lambda manifest: manifest["tokenizer"].update(characters="abc"))
    message = refused(folder)
    assert f"sha256 {CHARACTERS.fingerprint[:12]}, found " in message


def test_a_manifest_that_was_changed_is_refused(folder):
    path = folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"2/3"', '"1/3"').replace('"1/3"', '"2/3"', 1))
    assert path.read_text() == text
    Dataset(folder)
    path.write_text(text.replace("0.9", "0.8"))
    told = json.loads(text)["seal"]
    assert f"expected the seal {told[:12]}, found " in refused(folder)
    for content in ("", "[]", "3", "{}", "{", text[:-20]):
        path.write_text(content)
        assert "manifest.json is damaged, " in refused(folder)


def test_an_unfinished_folder(folder):
    (folder / "manifest.json").unlink()
    message = refused(folder)
    assert "it is written last" in message
    assert "tinygrad_lm.data prepare" in message
    assert "No such file" in refused(folder / "missing")


def test_everything_wrong_in_one_message(folder):
    (folder / "cats" / "train_000000.bin").unlink()
    with open(folder / "cats" / "train_000001.bin", "ab") as file:
        file.write(b"xx")
    write_shard(folder, "cats/val_000000.bin", [1, 2, 3], CHARACTERS.vocab_size)
    change(folder, lambda manifest: manifest["sources"]["sums"]["train"].update(tokens=7))
    change(folder, lambda manifest: manifest["sources"]["sums"].update(weight="1/2"))
    problems = refused(folder).split("\n  ")
    expected = ["5 problems", "train_000000.bin: cannot be read", "train_000001.bin: its header says"]
    expected += [
        "val_000000.bin: the manifest says",
        "source 'sums': expected 7 tokens, files have",
        "add up to 7/6",
    ]
    assert len(problems) == len(expected)
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))


def test_token_files_that_lie_elsewhere_are_seen_from_the_folder(folder):
    """So the message explains why they are missing after the folder was moved."""
    there = folder / "cats" / "train_000000.bin"
    there.rename(folder.parent / "cats.bin")
    change(folder, lambda manifest: manifest["sources"]["cats"]["train"]["shards"][0].update(file="../cats.bin"))
    assert len(Dataset(folder).train()["cats"][1].paths) == 2
    (folder.parent / "elsewhere").mkdir()
    moved = folder.rename(folder.parent / "elsewhere" / "data")
    (problem,) = refused(moved).split("\n  ")[1:]
    assert "../cats.bin: cannot be read: No such file" in problem
    assert "its path is relative to the dataset" in problem


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.pop("tokenizer"),
        lambda m: m.pop("sources"),
        lambda m: m.update(sources=[]),
        lambda m: m["sources"]["cats"].pop("weight"),
        lambda m: m["sources"]["cats"].update(weight="x"),
        lambda m: m["sources"]["cats"].update(weight="1/0"),
        lambda m: m["sources"]["cats"].pop("val"),
        lambda m: m["sources"]["cats"]["train"].pop("shards"),
        lambda m: m["sources"]["cats"]["train"]["shards"][0].pop("file"),
        lambda m: m["sources"]["cats"]["train"]["shards"][0].update(tokens="many"),
        lambda m: m["tokenizer"].update(name="unheard of"),
    ],
)
def test_a_manifest_of_another_shape(edit, folder):
    change(folder, edit)
    assert "manifest.json: " in refused(folder)
    assert "prepare it again" in refused(folder)


def test_sources_without_floor_or_held_out_documents(tmp_path):
    """Some sources may have none; if all have none, there is nothing to validate on."""
    one = {"weight": "1/2", "train": [[1, 2, 3]]}
    folder = write_dataset(
        tmp_path / "a", {"a": one | {"val": [[1, 2]]}, "b": one, "c": one | {"weight": "0", "val": [[1]]}}
    )
    change(folder, lambda m: m["sources"].pop("c"))
    change(folder, lambda m: m["sources"]["b"].update(floor=None))
    assert list(Dataset(folder).validation()) == ["a"]
    assert Dataset(folder).sources[1].floor is None
    folder = write_dataset(tmp_path / "b", {"a": one | {"val": [[1]]}, "b": one})
    with pytest.raises(DataError, match=r"no source has validation tokens.*name validation_shards"):
        Dataset(folder).validation()


class Row:
    """A stand-in for Shards."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __len__(self):
        return len(self.tokens)

    def read(self, start, count):
        assert start + count <= len(self.tokens)
        return self.tokens[start : start + count]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60), most=st.integers(1, 300))
def test_validation_is_spread_over_all_that_is_held_out(lengths, most):
    """Evenly spaced blocks of about equal size, each from a document boundary if one is near."""
    begins = np.cumsum([0, *lengths])[:-1]
    tokens = np.arange(1, sum(lengths) + 1)  # each is its own, but for those that begin documents
    tokens[begins] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "BLOCK", 20)
        found, plain = (read_spread(Row(tokens), most, eot) for eot in (0, None))
    if len(tokens) <= most:
        assert found.tolist() == plain.tolist() == tokens.tolist()
        return
    count = -(-most // 20)
    size = most // count
    assert len(found) == len(plain) == count * size > most - count
    for i, (block, unmoved) in enumerate(zip(found.reshape(count, size), plain.reshape(count, size), strict=True)):
        place, end = i * len(tokens) // count, (i + 1) * len(tokens) // count
        assert unmoved.tolist() == tokens[place : place + size].tolist()
        last = min(place + size, end - size)
        start = next((int(b) for b in begins if place <= b <= last), place)
        assert block.tolist() == tokens[start : start + size].tolist()


def test_every_file_is_validated_on(tmp_path):
    """In proportion to their lengths."""
    val = [np.full(30_000, 1), np.full(60_000, 2), np.full(10_000, 3)]
    folder = write_dataset(tmp_path / "a", {"a": {"weight": "1", "train": [[1, 2]], "val": val}})
    ((_, tokens),) = Dataset(folder).validation(50_000).values()
    assert len(tokens) > 49_900
    assert (np.bincount(tokens) / len(tokens)).tolist()[1:] == pytest.approx([0.3, 0.6, 0.1], abs=0.05)


def test_every_header_is_read_once(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(shards, "check_shard", lambda path, *rest: seen.append(path) or check_shard(path, *rest))
    Dataset(folder)
    assert len(seen) == len(set(seen)) == 5
