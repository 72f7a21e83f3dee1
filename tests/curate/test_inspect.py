"""A look into token files: what is counted is what is there, and whatever is wrong is found."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_mixture import contents, prepared, set_up, tiny_tokenizer, tokens_in, write_mixture

from tinygrad_lm.curate import inspect, survey
from tinygrad_lm.curate.journal import sealed
from tinygrad_lm.curate.survey import Survey
from tinygrad_lm.data.__main__ import COMMANDS, main
from tinygrad_lm.data.shards import Shards, header


@pytest.fixture
def out(tmp_path, monkeypatch):
    set_up(monkeypatch, tmp_path)
    return prepared(write_mixture(tmp_path / "raw", shard_tokens=400), tmp_path / "out")


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 9), st.integers(1, 20), st.data())
def test_a_survey_counts_what_is_there(tmp_path_factory, ids, block, cut, data):
    """Documents that go over the edge of a block, or of a file, too; and what is before the first is part of none."""

    class Eight:
        vocab_size, eot, vocabulary = 8, 0, [b"end", b"1", b"22", b"333", b"4", b"5", b"6", b"7"]

    folder = tmp_path_factory.getbasetemp()
    paths = []
    for i, part in enumerate([ids[:cut], ids[cut:]]):
        paths.append(folder / f"{i}.bin")
        paths[-1].write_bytes(header(len(part), np.dtype("<u2")) + np.array(part, "<u2").tobytes())
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
                f"{name}, {split}: {here['documents']} documents, {len(row):,} tokens, {size / len(row):.2f} bytes a "
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


def test_a_folder_of_bare_token_files_needs_a_tokenizer(out, tmp_path, capsys, gpt2):
    bare = tmp_path / "bare"
    bare.mkdir()
    for split in ("train", "val"):
        for number in (0, 1):
            row = np.array([gpt2.eot, *gpt2.encode(f"{split} {number}")], "<u2")
            (bare / f"fine_{split}_{number:06}.bin").write_bytes(header(len(row), row.dtype) + row.tobytes())
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


def test_the_entropy_of_a_synthetic_source_is_told_beside_its_documents(tmp_path, monkeypatch, capsys):
    """Exactly: 20 letters of 26 cost 20 ln 26, and where such a document of 41 characters ends has its entropy, too."""
    set_up(monkeypatch, tmp_path)
    mixture = write_mixture(tmp_path / "raw")
    mixture.write_text(mixture.read_text().replace('files = ["more/*.lines"]', COPY))
    out = prepared(mixture, tmp_path / "out")
    capsys.readouterr()
    assert main(["inspect", out, "--documents", "0"]) == 0
    told = capsys.readouterr().out
    entry = json.loads((out / "manifest.json").read_bytes())["sources"]["more"]
    nats = 20 * np.log(26) + 20 * np.log(20) - 19 * np.log(19)
    for split in ("train", "val"):
        line = (
            f"  entropy            {nats:.4f} nats a document, {nats / 41:.4f} a character; "
            f"these documents have {entry['floor'][split]:.4f} a token\n"
        )
        assert told.count(line) == 1
    assert told.count("  entropy ") == 2


COPY = 'synthetic = { kind = "copy", documents = 50 }'


def test_a_number_below_none_is_refused(out, capsys):
    assert main(["inspect", out, "--documents", "-1"]) == 2
    assert "--documents: expected 0 or more, found -1" in capsys.readouterr().err


# ---- --verify


def test_what_was_prepared_is_found_right(out, capsys):
    assert main(["inspect", out, "--verify"]) == 0
    assert "is as it was prepared" in capsys.readouterr().out


def rewrite(path, change):
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))


def flipped(content):
    content[1030] ^= 1
    return content


def all_at_once(out):
    """{what is done to a file: words of the complaint}"""
    manifest = json.loads((out / "manifest.json").read_bytes())
    manifest.pop("seal")
    manifest["sources"]["web"]["val"]["documents"] += 1
    manifest["sources"]["more"]["val"]["bytes"] += 1
    manifest["sources"]["more"]["val"]["shards"][0]["tokens"] += 1
    (out / "manifest.json").write_bytes(sealed(manifest))
    rewrite(out / "books" / "train_000000.bin", flipped)
    rewrite(out / "books" / "train_000001.bin", lambda c: c[:-2])
    rewrite(out / "books" / "train_000002.bin", lambda c: c[:1024] + b"\xff\xff" + c[1026:])
    (out / "books" / "val_000000.bin").unlink()
    (out / "web" / "train_000009.bin").write_bytes(b"")
    (out / "more" / "train_000007.bin.partial").write_bytes(b"")


def test_every_problem_is_listed(out, capsys):
    all_at_once(out)
    capsys.readouterr()
    assert main(["inspect", out, "--verify"]) == 1
    *problems, count = capsys.readouterr().out.splitlines()
    expected = [
        r"books/train_000000.bin: sha256 is",
        r"books/train_000001.bin: its header says 400 tokens",
        r"books/train_000002.bin: token 0 is 65535, expected ids below 263",
        r"books/val_000000.bin: cannot be read: No such file",
        r"web, val: 5 documents found, 6 expected",
        r"web/train_000009.bin is not in the manifest",
        r"more/val_000000.bin: tokens is",
        r"more, val: ",
        r"more/train_000007.bin.partial is not in the manifest",
    ]
    for part in expected:
        assert any(part in problem for problem in problems), part
    assert count == f"{len(problems)} wrong" == f"{len(expected)} wrong"


def test_a_damaged_manifest_says_so(out, capsys):
    rewrite(out / "manifest.json", lambda c: c.replace(b'"documents": 5', b'"documents": 6'))
    assert main(["inspect", out]) == 2
    assert "manifest.json: it is damaged" in capsys.readouterr().err


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

    monkeypatch.setattr(inspect, "opened", interrupted)
    assert main(["inspect", out]) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert contents(out)
