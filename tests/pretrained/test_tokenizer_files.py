"""The tokenizer of a published model's folder, from whatever files it was published with."""

import json
import shutil

import numpy as np
import pytest
from small_gpt import tiny
from small_run import example

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters
from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.export_tokenizer import tokenizer_files
from tinygrad_lm.pretrained.load import find_tokenizer, load_pretrained

MERGES = ["t h", "th e", "Ġ the", "l l"]
PIECES = [*byte_letters().values(), *("".join(merge.split()) for merge in MERGES)]
END = len(PIECES)  # <|endoftext|>
TEXT = "hello <|user|> there, the <|im_end|>[PAD]  I'll\n\n <s>the<|endoftext|>"
DECODER = {"content": "<|im_end|>", "special": True, **dict.fromkeys(("lstrip", "rstrip", "normalized"), False)}
# What is written beside vocab.json and merges.txt: {case: {file name: content}}.
BESIDE = {
    "nothing": {},
    "added_tokens.json": {
        "added_tokens.json": {"<|user|>": END + 1, "[PAD]": END + 2, "<|im_end|>": END + 3},
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "pad_token": "[PAD]"},
    },
    "added_tokens_decoder": {
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "added_tokens_decoder": {str(END + 1): DECODER}}
    },
    "special_tokens_map.json": {"special_tokens_map.json": {"pad_token": "[PAD]", "bos_token": "<s>"}},
    "additional": {"tokenizer_config.json": {"additional_special_tokens": ["<|user|>"]}},
    "a space in front": {"tokenizer_config.json": {"add_prefix_space": True}},
}


def gpt2_folder(folder, beside, **config):
    """The tokenizer's files of a GPT-2 as transformers 4 wrote them, without a tokenizer.json."""
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({text: i for i, text in enumerate([*PIECES, "<|endoftext|>"])}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]))
    for name, content in ({"config.json": {"model_type": "gpt2"} | config} | beside).items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("case", BESIDE)
def test_what_lies_beside_a_vocabulary(case, tmp_path):
    """Ids, ends and size are those of transformers, whichever files name the added tokens."""
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    folder = gpt2_folder(tmp_path / "gpt2", BESIDE[case], eos_token_id=END)
    theirs, found = transformers.GPT2Tokenizer.from_pretrained(folder), find_tokenizer(folder, "gpt2", END + 1)
    assert found.encode(TEXT, special=True).tolist() == theirs(TEXT).input_ids
    assert (found.vocab_size, found.eot) == (len(theirs), theirs.eos_token_id)
    assert isinstance(found, GPT2Tokenizer) == (case == "nothing")
    assert found.ends == {found.eot, END}
    if case == "added_tokens.json":
        assert found.decode([END + 3]) == "<|im_end|>"
        assert END + 3 not in found.encode("<|im_end|>").tolist()  # a text cannot end itself
        files = tokenizer_files(found)
        assert b"<|im_end|>" in files["tokenizer.json"]
        assert b"<|im_end|>" in files["tokenizer_config.json"]


def test_a_tokenizer_json_is_taken_before_older_files(tmp_path):
    folder = gpt2_folder(tmp_path / "gpt2", BESIDE["added_tokens.json"])
    (tmp_path / "json").mkdir()
    for name, content in tokenizer_files(find_tokenizer(folder, "gpt2", END + 4)).items():
        (tmp_path / "json" / name).write_bytes(content)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder / name, tmp_path / "json")
    assert find_tokenizer(tmp_path / "json", "gpt2", END + 4).eot == END + 3


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"added_tokens.json": {"<a>": END + 5}}, f"have the ids .*{END + 5}.*, expected"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"x": {}}}}, "cannot be read: ValueError"),
    ],
    ids=["a gap", "no id"],
)
def test_added_tokens_that_make_no_sense(beside, message, tmp_path):
    with pytest.raises(DataError, match=message):
        find_tokenizer(gpt2_folder(tmp_path / "gpt2", beside), "gpt2", END + 1)


def test_a_folder_with_sentencepiece_s_file_alone(tmp_path):
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(DataError, match=r"has tokenizer.model but no tokenizer.json; make one with transformers: Auto"):
        find_tokenizer(tmp_path, "llama", 7)


# ---- several ends of a text

ENDS = {
    "generation_config.json": {"generation_config.json": {"eos_token_id": [END, END + 3]}},
    "config.json": {"config.json": {"eos_token_id": [END, END + 3]}, "generation_config.json": {}},
    "another than the tokenizer's": {"generation_config.json": {"eos_token_id": END + 3}},
    "the tokenizer's": {"tokenizer_config.json": {"eos_token": "<|im_end|>"}},
}


@pytest.mark.parametrize("case", ENDS)
def test_every_end_ends_a_text(case, tmp_path, capsys):
    """Of the program, and of the tasks that write; and the export names them all."""
    config = tiny("gpt2", vocab_size=END + 4, block_size=64, tied=False)
    model = GPT(config, None, np.float32)
    model.flat["lm_head.weight"].data[:, END + 3] = 1.0
    model.flat["ln_f.bias"].data[:] = 1.0
    source = find_tokenizer(gpt2_folder(tmp_path / "gpt2", BESIDE["added_tokens.json"]), "gpt2", END + 4)
    export(model, source, folder := tmp_path / "model")
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (folder / "generation_config.json").write_text("{}")
    for name, content in ENDS[case].items():
        old = json.loads((folder / name).read_text()) | ({"eos_token_id": None} if name == "config.json" else {})
        (folder / name).write_text(json.dumps(old | content))
    again, tokenizer = load_pretrained(folder)
    assert END + 3 in tokenizer.ends
    assert Evaluator(again, tokenizer).complete(["hello"], 6, [], "x") == [""]
    example("generate").main([str(folder), "--prompt", "hello", "--tokens", "4", "--temperature", "0"])
    assert capsys.readouterr().out == "hello\n"
    export(again, tokenizer, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "generation_config.json").read_text())["eos_token_id"]
    assert END + 3 in np.atleast_1d(written)


def test_special_tokens_in_a_prompt(tmp_path, monkeypatch):
    """Text, as anybody's prompt is, unless the program is asked to take them for tokens."""
    model = GPT(tiny("gpt2", vocab_size=END + 4, block_size=64), None, np.float32)
    source = find_tokenizer(gpt2_folder(tmp_path / "gpt2", BESIDE["added_tokens.json"]), "gpt2", END + 4)
    export(model, source, folder := tmp_path / "model")
    program, prompts = example("generate"), []
    monkeypatch.setattr(program, "generate_batch", lambda model, given, *_, **__: prompts.append(given[0]) or iter([]))
    for options in ([], ["--special"]):
        program.main([str(folder), "--prompt", "hello<|im_end|>", *options])
    assert END + 3 not in prompts[0]
    assert prompts[1] == [*source.encode("hello"), END + 3]
