"""Inspecting token files: counts are right, and every problem is found."""

import errno
import hashlib
import json
import os
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from slow import first_of_each
from small_mixture import contents, prepare_inline, set_up, tiny_tokenizer, tokens_in, write_mixture

from tinygrad_lm.curate import inspect, survey
from tinygrad_lm.curate.survey import Survey
from tinygrad_lm.data.__main__ import COMMANDS, main
from tinygrad_lm.data.shards import Shards, shard_header
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.files import sealed_json


@pytest.fixture
def out(tmp_path, monkeypatch):
    set_up(monkeypatch, tmp_path)
    return prepare_inline(write_mixture(tmp_path / "raw", shard_tokens=400), tmp_path / "out")


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 9), st.integers(1, 20), st.data())
def test_a_survey_counts_what_is_there(tmp_path_factory, ids, block, cut, data):
    """Also with documents across blocks and files; tokens before the first one belong to none."""

    class Eight:
        vocab_size, eot, vocabulary = 8, 0, [b"end", b"1", b"22", b"333", b"4", b"5", b"6", b"7"]

    folder = tmp_path_factory.getbasetemp()
    paths = []
    for i, part in enumerate([ids[:cut], ids[cut:]]):
        paths.append(folder / f"{i}.bin")
        paths[-1].write_bytes(shard_header(len(part), np.dtype("<u2")) + np.array(part, "<u2").tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "BLOCK", block)
        found = Survey(Shards(paths, 8), Eight)
        documents = [[int(c) for c in part] for part in "".join(map(str, ids)).split("0")[1:]]
        assert found.counts.tolist() == [ids.count(i) for i in range(8)]
        assert found.documents == len(documents)
        assert found.lengths == Counter(map(len, documents))
        assert found.size == sum(len(Eight.vocabulary[i]) for i in ids if i)
        for number, document in enumerate(documents):
            most = data.draw(st.integers(0, 10))
            assert found.document(number, most).tolist() == document[:most]
        if documents:
            lengths = sorted(map(len, documents))
            assert found.quantiles([0, 0.5, 1]) == [lengths[0], lengths[(len(lengths) - 1) // 2], lengths[-1]]


@pytest.mark.slow
def test_what_is_told_of_a_prepared_folder(out, tmp_path, capsys):
    tokenizer = tiny_tokenizer(tmp_path / "vocabulary")
    capsys.readouterr()
    assert main(["inspect", out, "--documents", "3", "--seed", "1"]) == 0
    told = capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_bytes())
    for name, entry in manifest["sources"].items():
        for split in ("train", "val"):
            row = tokens_in(out, name, split)
            here, size = entry[split], sum(len(tokenizer.vocabulary[i]) for i in row if i != tokenizer.eot)
            files = len(here["shards"])
            assert (
                f"{name}, {split}: {here['documents']} documents, {len(row):,} tokens, {size / len(row):.2f} bytes per "
                f"token, {files} file{'s' if files > 1 else ''}\n"
            ) in told
            top, count = Counter(row.tolist()).most_common(1)[0]
            assert f"{tokenizer.decode([top])!r} {count / len(row):.1%}" in told
            assert told.count(f"--- {name}, {split}, document ") == min(3, here["documents"])
    assert (out / "inspect.png").read_bytes().startswith(b"\x89PNG")
    documents = tokenizer.decode(tokens_in(out, "more", "train")).split("<|endoftext|>")[1:]
    shown = told.split("--- more, train, document ")[1].split("\n")
    assert shown[1].removesuffix(" …") == documents[int(shown[0])][: len(shown[1].removesuffix(" …"))]
    assert main(["inspect", out, "--documents", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().out == told
    assert main(["inspect", out, "--documents", "3", "--seed", "2"]) == 0
    assert capsys.readouterr().out != told


@pytest.mark.slow
def test_a_folder_of_bare_token_files_needs_a_tokenizer(out, tmp_path, capsys, gpt2):
    bare = tmp_path / "bare"
    bare.mkdir()
    for split in ("train", "val"):
        for number in (0, 1):
            row = np.array([gpt2.eot, *gpt2.encode(f"{split} {number}")], "<u2")
            (bare / f"fine_{split}_{number:06}.bin").write_bytes(shard_header(len(row), row.dtype) + row.tobytes())
    assert main(["inspect", bare]) == 2
    assert "give --tokenizer" in capsys.readouterr().err
    assert main(["inspect", bare, "--tokenizer", "gpt2", "--plot", tmp_path / "a.png"]) == 0
    told = capsys.readouterr().out
    assert "fine_train: 2 documents, 6 tokens" in told
    assert "train 0" in told
    assert "val 1" in told
    assert not (bare / "inspect.png").exists()
    assert main(["inspect", bare, "--tokenizer", "gpt2", "--verify"]) == 2
    assert "has no manifest.json" in capsys.readouterr().err


def test_a_folder_without_token_files_is_named(tmp_path, capsys):
    assert main(["inspect", tmp_path]) == 2
    assert capsys.readouterr().err.startswith(f"error: inspect: {tmp_path} has neither manifest.json nor token files")


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "a.bin").write_bytes(b"")
    assert main(["inspect", tmp_path / "a.bin"]) == 2
    assert f"inspect: {tmp_path / 'a.bin'} is a file; give its folder" in capsys.readouterr().err


def test_as_many_documents_as_can_be(out, capsys):
    assert main(["inspect", out, "--documents", "-1"]) == 2
    assert "--documents must be at least 0, found -1" in capsys.readouterr().err
    assert main(["inspect", out, "--documents", "0"]) == 0
    assert "---" not in capsys.readouterr().out


def bare(folder, text):
    """A folder with one token file of bytes."""
    folder.mkdir()
    ids = np.frombuffer(text.encode(), np.uint8).astype("<u2")
    (folder / "a.bin").write_bytes(shard_header(len(ids), ids.dtype) + ids.tobytes())
    return folder


def test_texts_cannot_play_with_the_terminal(tmp_path, capsys, monkeypatch):
    """Control characters are escaped; letters, tabs and line ends stay."""
    monkeypatch.setattr(ByteTokenizer, "eot", 0)
    folder = bare(tmp_path / "bare", "\0a\x1b[2Jb\rc\x07\x7f\x85d\te\nü猫")
    assert main(["inspect", folder, "--tokenizer", "byte"]) == 0
    shown = capsys.readouterr().out.split("document 0\n")[1]
    assert shown.startswith("a\\x1b[2Jb\\rc\\x07\\x7f\\x85d\te\nü猫\n")


# ---- the picture


@pytest.mark.parametrize(
    ("name", "begins"),
    first_of_each([("x.png", b"\x89PNG"), ("x.svg", b"<?xml"), ("x.PDF", b"%PDF")], lambda row: "suffix"),
)
def test_the_suffix_says_how_it_is_drawn(name, begins, out, tmp_path, capsys):
    assert main(["inspect", out, "--plot", tmp_path / name]) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert f"frequencies: {tmp_path / name}" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("x.txt", "expected a name that ends in "),
        ("x", "expected a name that ends in "),
        ("none/x.png", "its folder does not exist"),
        ("x.tmp/x.png", "its folder does not exist"),
    ],
)
def test_a_picture_that_cannot_be_drawn_there(name, complaint, out, tmp_path, capsys, monkeypatch):
    """It is reported before the work begins."""
    monkeypatch.setattr(inspect, "Survey", None)
    (tmp_path / "x.tmp").write_bytes(b"")
    assert main(["inspect", out, "--plot", tmp_path / name]) == 2
    assert f"error: inspect: cannot draw {tmp_path / name}: {complaint}" in capsys.readouterr().err


def test_a_full_disk_leaves_no_part_of_a_picture(out, tmp_path, capsys, monkeypatch):
    def savefig(self, path):
        path.write_bytes(b"\x89P")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", savefig)
    before = sorted(tmp_path.iterdir())
    assert main(["inspect", out, "--plot", tmp_path / "x.png"]) == 2
    assert f"cannot draw {tmp_path / 'x.png'}: No space left on device; " in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_lengths_are_drawn_as_they_are(tmp_path, monkeypatch):
    """Each step of a curve is at a length, and as high as the number of its documents."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: (figures.append(self), path.write_bytes(b"")))
    empty = SimpleNamespace(lengths=Counter(), counts=np.zeros(3, int), documents=0)
    sums = SimpleNamespace(lengths=Counter({3: 1, 1: 2, 0: 1}), counts=np.array([4, 0, 5]), documents=4)
    inspect.draw_surveys({"none, train": empty, "sums, train": sums}, tmp_path / "x.png")
    (curve,) = figures[0].axes[0].lines
    assert curve.get_xdata().tolist() == [1, 1, 2, 4]  # with the end of each document
    assert curve.get_ydata().tolist() == [0, 1 / 4, 3 / 4, 1]


def test_the_entropy_of_a_synthetic_source_is_told_beside_its_documents(tmp_path, monkeypatch, capsys):
    """Exactly: 20 letters of 26 cost 20 ln 26, and the geometric length has its entropy too."""
    set_up(monkeypatch, tmp_path)
    mixture = write_mixture(tmp_path / "raw")
    mixture.write_text(mixture.read_text().replace('files = ["more/*.lines"]', COPY))
    out = prepare_inline(mixture, tmp_path / "out")
    capsys.readouterr()
    assert main(["inspect", out, "--documents", "0"]) == 0
    told = capsys.readouterr().out
    entry = json.loads((out / "manifest.json").read_bytes())["sources"]["more"]
    nats = 20 * np.log(26) + 20 * np.log(20) - 19 * np.log(19)
    for split in ("train", "val"):
        line = (
            f"  entropy            {nats:.4f} nats per document, {nats / 41:.4f} per character; "
            f"these documents have {entry['floor'][split]:.4f} per token\n"
        )
        assert told.count(line) == 1
    assert told.count("  entropy ") == 2


COPY = 'synthetic = { kind = "copy", documents = 50 }'


# ---- --verify


def test_what_was_prepared_is_found_right(out, capsys):
    assert main(["inspect", out, "--verify"]) == 0
    assert "every file matches the manifest" in capsys.readouterr().out


def rewrite(path, change):
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))


def flipped(content):
    content[1030] ^= 1
    return content


def sum_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def all_at_once(out):
    """Damage a dataset in every way that the test expects."""
    manifest = json.loads((out / "manifest.json").read_bytes())
    manifest.pop("seal")
    manifest["sources"]["web"]["val"]["documents"] += 1
    manifest["sources"]["more"]["val"]["bytes"] += 1
    manifest["sources"]["more"]["val"]["shards"][0]["tokens"] += 1
    (out / "manifest.json").write_bytes(sealed_json(manifest))
    rewrite(out / "books" / "train_000000.bin", flipped)
    rewrite(out / "books" / "train_000001.bin", lambda c: c[:-2])
    rewrite(out / "books" / "train_000002.bin", lambda c: c[:1024] + b"\xff\xff" + c[1026:])
    (out / "books" / "val_000000.bin").unlink()
    (out / "web" / "train_000009.bin").write_bytes(b"")
    (out / "more" / "train_000007.bin.partial").write_bytes(b"")


def test_every_problem_is_listed(out, capsys):
    before = sum_of(out / "books" / "train_000000.bin")
    all_at_once(out)
    sums = sum_of(out / "books" / "train_000000.bin"), before
    capsys.readouterr()
    assert main(["inspect", out, "--verify"]) == 1
    count, *problems = capsys.readouterr().out.splitlines()
    expected = [
        r"books/train_000000.bin: expected sha256 " + sums[1][:12] + ", found " + sums[0][:12],
        r"books/train_000001.bin: its header says 400 tokens",
        r"books/train_000002.bin: token 0 is 65535, expected ids below 263",
        r"books/val_000000.bin: cannot be read: No such file",
        r"web, val: expected 6 documents, found 5",
        r"web/train_000009.bin is not in the manifest",
        r"more/val_000000.bin: expected tokens ",
        r"more, val: ",
        r"more/train_000007.bin.partial is not in the manifest",
    ]
    for part in expected:
        assert any(part in problem for problem in problems), part
    assert not any(re.search("[0-9a-f]{13}", problem) for problem in problems)
    assert count == f"{out}: {len(problems)} problems" == f"{out}: {len(expected)} problems"


def test_a_damaged_manifest_says_so(out, capsys):
    rewrite(out / "manifest.json", lambda c: c.replace(b'"documents": 5', b'"documents": 6'))
    assert main(["inspect", out]) == 2
    assert "manifest.json is damaged" in capsys.readouterr().err


def test_another_tokenizer_in_the_folder_is_refused(out, capsys):
    rewrite(out / "tokenizer" / "encoder.json", lambda c: c.replace(b"endoftext", b"endoftexx"))
    assert main(["inspect", out]) == 2
    assert "expected the vocabulary with sha256" in capsys.readouterr().err


# ---- the commands


def test_the_commands_are_listed(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out
    for name in COMMANDS:
        assert name in told


def test_help_of_a_command_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "--help"])
    assert ended.value.code == 0
    assert inspect.__doc__.splitlines()[0] in capsys.readouterr().out


def test_ctrl_c_is_no_traceback(monkeypatch, out, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect, "open_folder", interrupted)
    assert main(["inspect", out]) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert contents(out)
