"""A run's folder is all that is needed to open it."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from pretrained.small_models import SEVEN
from small_gpt import tiny
from small_run import editing

from tinygrad_lm import files
from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.pretrained.export_tokenizer import tokenizer_files
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.run import RunFolder, prompt_option


def foreign(kind, folder):
    """A tokenizer from the files of a folder."""
    folder.mkdir()
    if kind == "json":
        pytest.importorskip("tokenizers")
        for name, content in tokenizer_files(SEVEN).items():
            (folder / name).write_bytes(content)
        (folder / "config.json").write_text('{"eos_token_id": 5}')
        return JsonTokenizer(folder)
    pytest.importorskip("tiktoken")
    if kind == "bpe":
        tokenizer = BPETokenizer([*ALPHABET, b"ab"], ["<|a|>", "<|endoftext|>"])
        tokenizer.save(folder / "mine.tiktoken")
        return tokenizer
    tokens = [*byte_letters().values(), "th", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    return GPT2Tokenizer(folder)


def create(path, tokenizer):
    return RunFolder.create(path, tiny("modern-tiny"), TrainConfig(1, 1), tokenizer, dtype="float32", start=0, title="")


@pytest.mark.parametrize("kind", ["json", "gpt2", "bpe"])
def test_a_run_outlives_the_folder_of_its_tokenizer(kind, tmp_path):
    """And may itself be moved."""
    tokenizer = foreign(kind, tmp_path / "model")
    create(tmp_path / "run", tokenizer)
    expected, eot = tokenizer.encode("a b").tolist(), tokenizer.eot
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "run").rename(tmp_path / "moved")
    again = RunFolder(tmp_path / "moved").tokenizer
    assert (again.encode("a b").tolist(), again.eot, again.fingerprint) == (expected, eot, tokenizer.fingerprint)
    assert tokenizer_files(again)  # what export takes along
    create(tmp_path / "another", again)
    shutil.rmtree(tmp_path / "moved")
    assert RunFolder(tmp_path / "another").tokenizer.eot == eot


@pytest.mark.parametrize("kind", ["json", "gpt2"])
def test_a_run_from_before_names_the_folder_of_its_tokenizer(kind, tmp_path):
    tokenizer = foreign(kind, tmp_path / "model")
    create(tmp_path / "run", tokenizer)
    shutil.rmtree(tmp_path / "run" / "tokenizer")
    with editing(tmp_path / "run") as config:
        config["tokenizer"] = tokenizer.to_dict()
    assert RunFolder(tmp_path / "run").tokenizer.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("broken", ["mine.tiktoken", "config.json"])
def test_a_full_disk_leaves_no_file_that_is_not_whole(broken, tmp_path, monkeypatch):
    tokenizer = foreign("bpe", tmp_path / "model")

    def write(path, content, whole=files.write):
        whole(path, content[: 0 if path.name.endswith(broken) else None])
        if path.name.endswith(broken):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(ConfigError, match=r"cannot write to .*: No space left on device"):
        create(tmp_path / "run", tokenizer)
    found = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert found == ({"mine.tiktoken", "mine.tiktoken.json"} if broken == "config.json" else set())


@pytest.mark.parametrize(("kind", "file"), [("json", "tokenizer.json"), ("bpe", "mine.tiktoken")])
def test_another_tokenizer_in_the_run_s_folder_is_noticed(kind, file, tmp_path):
    create(tmp_path / "run", tokenizer := foreign(kind, tmp_path / "model"))
    path = tmp_path / "run" / "tokenizer" / file
    path.write_text(path.read_text().replace('"a": 3', '"z": 3').replace("YWI=", "YWM="))
    with pytest.raises(
        CheckpointError, match="expected the vocabulary with sha256 " + tokenizer.fingerprint[:12] + ","
    ):
        RunFolder(tmp_path / "run")


def test_a_checkpoint_of_another_tokenizer_is_refused(tmp_path):
    """As when config.json and tokenizer/ come from one run and checkpoints/ from another."""
    for name, token in (("one", b"ab"), ("two", b"ac")):
        create(tmp_path / name, BPETokenizer([*ALPHABET, token])).write_checkpoint({"model": {"x": np.zeros(1)}}, 1)
    shutil.rmtree(tmp_path / "one" / "checkpoints")
    shutil.copytree(tmp_path / "two" / "checkpoints", tmp_path / "one" / "checkpoints")
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    two.read_checkpoint()
    with pytest.raises(CheckpointError) as caught:
        one.read_checkpoint()
    assert f"the vocabulary {two.tokenizer.fingerprint[:12]}, config.json has " in str(caught.value)
    assert one.tokenizer.fingerprint[:12] in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", 'has no "model", "train", "tokenizer", so it is not a run\'s'),
        ('{"model": {}, "train": {}}', 'has no "tokenizer", so'),
        ("[]", "is damaged"),
        ("{", "is damaged"),
        ('{"model": 1, "train": {}, "tokenizer": {}}', "is damaged"),
    ],
)
def test_a_config_json_that_is_no_run_s(content, message, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"config.json {message}"):
        RunFolder(tmp_path)


@pytest.mark.parametrize(("characters", "hint"), [("EMOR: ", ' --prompt "ROMEO:"'), ("abc\n", "")])
def test_the_prompt_that_is_proposed_can_be_written(characters, hint):
    assert prompt_option(CharTokenizer("".join(sorted(characters)))) == hint
