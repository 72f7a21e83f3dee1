"""GGUF files: what the writer of the library wrote comes back; what ours cannot express is refused by its name."""

import json
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

gguf = pytest.importorskip("gguf", reason="the library gguf is not installed")
from pretrained.gguf_models import (  # noqa: E402
    FAMILIES,
    SIZES,
    TOKENIZER,
    converted,
    publish,
    quantised,
    small,
    widened,
    write,
)

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters  # noqa: E402
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer  # noqa: E402
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict  # noqa: E402
from tinygrad_lm.errors import CheckpointError, ConfigError, DataError, TinygradError  # noqa: E402
from tinygrad_lm.posttrain.chat.export_chat import chat_files  # noqa: E402
from tinygrad_lm.posttrain.chat.load import find_chat  # noqa: E402
from tinygrad_lm.pretrained import hub, load  # noqa: E402
from tinygrad_lm.pretrained.export import export  # noqa: E402
from tinygrad_lm.pretrained.gguf_file import KINDS, GGUFFile  # noqa: E402
from tinygrad_lm.pretrained.gguf_tokenizer import published_files  # noqa: E402
from tinygrad_lm.pretrained.load import load_pretrained  # noqa: E402
from tinygrad_lm.testing.checks import same  # noqa: E402

families = pytest.mark.parametrize("kind", FAMILIES)
QUANTISABLE = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")


def refused(path, *fragments, error=(CheckpointError, ConfigError)):
    with pytest.raises(error) as caught:
        load_pretrained(path)
    for fragment in (str(path), *fragments):
        assert fragment in str(caught.value), str(caught.value)


# The container


def test_every_kind_beside_the_library_s_reader(tmp_path):
    rng, tensors = np.random.default_rng(0), {}
    for kind in (gguf.GGMLQuantizationType[name] for name in KINDS):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = rng.integers(0, 120, (2, 3, 512 // block * size), np.uint8)  # small bytes: scales are finite
        tensors[f"t.{kind.name}"] = stored if kind.name != "F64" else rng.standard_normal((2, 3, 512)), kind
    tensors["vector"] = np.arange(5, dtype=np.float32), gguf.GGMLQuantizationType.F32
    metadata = {"a": "text", "b": 3, "c": 0.5, "d": True, "e": ["x", "ÿ"], "f": [1, 2], "g": [0.25], "h": -2}
    path = write(tmp_path / "all.gguf", "llama", metadata | {"general.alignment": 64}, tensors)
    theirs, ours = gguf.GGUFReader(path), GGUFFile(path)
    fields = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.metadata == fields
    assert len(ours) == len(theirs.tensors) == len(KINDS) + 1
    for tensor in theirs.tensors:
        expected = tensor.data
        if tensor.tensor_type.name != "F64":
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = tuple(tensor.shape[::-1].tolist())
        same(ours[tensor.name], expected.reshape(shape), tensor.name)
        assert ours.shapes[tensor.name] == (shape, expected.dtype)
        assert ours[tensor.name].dtype == expected.dtype


def test_a_header_is_read_without_the_tensors(tmp_path, monkeypatch):
    path = publish(tmp_path / "model.gguf", small("llama"), "llama")
    monkeypatch.setattr(np, "fromfile", lambda *_, **__: pytest.fail("a tensor was read"))
    GGUFFile(path).shapes  # noqa: B018


@given(data=st.data())
@settings(max_examples=30)
def test_a_damaged_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    content = publish(folder / "whole.gguf", small("llama"), "llama").read_bytes()
    path, end = folder / "model.gguf", data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:end])
    refused(path, "model.gguf: ", error=CheckpointError)
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, 2000))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with suppress(TinygradError):  # or what changed was a number that may have any value
        load_pretrained(path)


HEAD = b"GGUF" + (3).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot mmap an empty file"),
        (b"PK\3\4....", "expected GGUF as its first 4 bytes, found b'PK"),
        (b"GGUF\0\0\0\3" + bytes(16), "expected version 2 or 3, little-endian, found 0x3000000"),
        (b"GGUF\1\0\0\0" + bytes(16), "found 0x1"),
        (HEAD + (0).to_bytes(8, "little") + (2**40).to_bytes(8, "little"), "expected 8 more bytes from byte 24 on"),
        (
            HEAD + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"k" + b"\x09\0\0\0" + bytes(4) + b"\xff" * 8,
            "expected 18446744073709551615 more bytes from byte 49 on, found 0",
        ),
        (HEAD + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"k" + b"\x63\0\0\0", "found kind 99"),
        (HEAD + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"\xff", "expected UTF-8 before byte 33, found b'"),
    ],
)
def test_a_wrong_head(tmp_path, content, message):
    """The second to last number would keep the library's reader busy for ever: an array of 2^64 bytes."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, message, error=CheckpointError)


def test_names_come_once(tmp_path):
    path = publish(tmp_path / "model.gguf", small("llama"), "llama")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"blk.0.attn_k.weight", b"blk.0.attn_q.weight"))
    refused(path, "tensor blk.0.attn_q.weight is there twice; download it again")
    path.write_bytes(content.replace(b"llama.attention.key_length", b"llama.rope.dimension_count"))
    refused(path, "metadata llama.rope.dimension_count is there twice")


def test_a_tensor_that_cannot_be_there(tmp_path):
    path = publish(tmp_path / "model.gguf", small("llama"), "llama", "Q8_0")
    content = path.read_bytes()
    path.write_bytes(content[:-64])
    refused(path, f" ends at byte {len(content)} of a file of {len(content) - 64}; download it again")
    head = b"blk.0.attn_q.weight" + (2).to_bytes(4, "little")
    path.write_bytes(content.replace(head + b"\x20", head + b"\x21"))
    refused(path, "tensor blk.0.attn_q.weight: expected rows of blocks of 32 for Q8_0, found (32, 33)")


def test_a_model_that_is_too_large(tmp_path, monkeypatch):
    def allocate(*_):
        raise MemoryError("Unable to allocate 23.7 GiB")

    monkeypatch.setattr(load, "GPT", allocate)
    path = publish(tmp_path / "model.gguf", small("llama"), "llama")
    refused(path, "the model does not fit into memory: Unable to allocate 23.7 GiB", error=CheckpointError)


# A model


@families
@pytest.mark.parametrize("stored", QUANTISABLE)
def test_weights_come_back(tmp_path, kind, stored):
    model = small(kind)
    path = publish(tmp_path / "model.gguf", model, kind, stored)
    again, _ = load_pretrained(path)
    assert again.config == model.config
    expected = widened(quantised(converted(model, kind)[1], stored))
    found = converted(again, kind)[1]
    assert found.keys() == expected.keys()
    for name in expected:
        same(found[name], expected[name], name)
    error = max(abs(again.flat[name].data - p.data).max() for name, p in model.flat.items())
    most = {"F32": 0, "F16": 2**-10, "BF16": 2**-7, "Q8_0": 0.01, "Q5_0": 0.1, "Q5_1": 0.1, "Q4_0": 0.2, "Q4_1": 0.2}
    assert error <= most[stored]


@families
def test_a_head_of_its_own_and_a_tied_one(tmp_path, kind):
    """The head is the embedding exactly if the file has no output.weight."""
    for tied in (True, False):
        model = small(kind, tied=tied)
        again, _ = load_pretrained(publish(tmp_path / f"{tied}.gguf", model, kind))
        assert again.config.tied == tied
        x = np.array([[3, 1, 4, 1, 5]])
        same(again(x).data, model(x).data, "logits")


def test_a_llama_with_biases(tmp_path):
    model = small("llama", bias=True)
    again, _ = load_pretrained(publish(tmp_path / "model.gguf", model, "llama"))
    same(again.flat.data, model.flat.data, "weights")


def test_all_that_does_not_fit_is_said_at_once(tmp_path):
    f32, q8 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.TQ2_0
    tensors = {
        "blk.0.ffn_up.weight": None,
        "blk.1.ffn_up.weight": (np.zeros((64, 16), np.float32), f32),
        "rope_freqs.weight": (np.ones(4, np.float32), f32),
        "output.weight": (np.zeros((SIZES["vocab_size"], 66), np.uint8), q8),
    }
    path = publish(tmp_path / "model.gguf", small("llama"), "llama", tensors=tensors)
    refused(
        path,
        "blk.0.ffn_up.weight is missing",
        "blk.1.ffn_up.weight has shape (64, 16), expected (64, 32)",
        "rope_freqs.weight has no place in this configuration",
        f"output.weight has shape ({SIZES['vocab_size']}, 256), expected",
        "output.weight is stored as TQ2_0, expected floating-point numbers",
        error=CheckpointError,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.block_count": None, "llama.context_length": None}, "found no llama.context_length, llama.block_count"),
        ({"llama.block_count": 3}, "llama.block_count must be 2, as the tensors say, found 3"),
        ({"llama.attention.head_count": [4, 4]}, "num_attention_heads must be a positive whole number, found [4, 4]"),
        ({"llama.attention.head_count_kv": 3}, "n_head must be a multiple of n_kv_head 3"),
        ({"llama.expert_count": 8}, "llama.expert_count must be 0 or absent, found 8"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type must be 'none' or absent, found 'yarn'"),
        ({"llama.rope.scaling.factor": 4.0}, "llama.rope.scaling.factor must be absent, found 4.0"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count must be 8 or absent, found 4"),
        ({"llama.attention.value_length": 4}, "llama.attention.value_length must be 8 or absent, found 4"),
        ({"llama.attention.sliding_window": 9}, "llama.attention.sliding_window must be absent, found 9"),
        ({"llama.attention.causal": False}, "llama.attention.causal must be True or absent, found False"),
        ({"llama.logit_scale": 2.0}, "llama.logit_scale must be absent, found 2.0"),
        ({"llama.vocab_size": 9}, f"llama.vocab_size must be {SIZES['vocab_size']} or absent, found 9"),
        ({"llama.rope.freq_base": 0.0}, "rope_theta must be a positive number, found 0.0"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "rms_norm_eps must be a positive number, found -1.0"),
        ({"split.count": 2}, "split.count must be 1 or absent, found 2"),
        ({"general.type": "adapter"}, "general.type must be 'model' or absent, found 'adapter'"),
        ({"general.alignment": 0}, "general.alignment must be a positive whole number, found 0"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model must be gpt2, which is byte pair encoding, found 'l"),
        ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre must be one of gpt-2, smollm, llama-bpe, qwen2, found"),
        ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre must be one of gpt-2, smollm, llama-bpe, qwen2, found None"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens must be different texts, found None"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "tokenizer.ggml.tokens must be different texts, found ['a', 'a']"),
        ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges must be pairs of tokens, found None"),
        ({"tokenizer.ggml.merges": ["ab"]}, "tokenizer.ggml.merges must be pairs of tokens, found ['ab']"),
        ({"tokenizer.ggml.token_type": [1]}, "tokenizer.ggml.token_type must be one for each token, found [1]"),
        ({"tokenizer.ggml.eos_token_id": 999}, "tokenizer.ggml.eos_token_id must be a token's, found 999"),
    ],
)
def test_metadata_that_ours_cannot_express(tmp_path, changes, message):
    refused(publish(tmp_path / "model.gguf", small("llama"), "llama", metadata=changes), message)


def test_an_unknown_architecture(tmp_path):
    path = write(tmp_path / "model.gguf", "gemma3", TOKENIZER, {})
    refused(path, "general.architecture must be one of gpt2, llama, qwen3, found 'gemma3'", error=ConfigError)


def test_merges_of_tokens_that_are_not_there(tmp_path):
    path = publish(tmp_path / "model.gguf", small("llama"), "llama", metadata={"tokenizer.ggml.merges": ["q q"]})
    refused(path, "expected the description of a tokenizer, found: ", error=DataError)


# Its tokenizer

TEXT = "the This 12 is 3.14 <|user|>, 'LL we'll\r\n\n  été 12345 1200 <think> \t\u2003the"


def tokenizer_of(pre="gpt-2", **changes):
    metadata = TOKENIZER | {"tokenizer.ggml.pre": pre} | {f"tokenizer.ggml.{k}": v for k, v in changes.items()}
    return JsonTokenizer("x.gguf", published_files(metadata))


def pieces(tokenizer, text):
    return [tokenizer.decode([i]) for i in tokenizer.encode(text).tolist()]


def test_gpt_2_s_words(tmp_path):
    """The same vocabulary in GPT-2's own files, in the order that they need."""
    merged = ["".join(merge.split()) for merge in TOKENIZER["tokenizer.ggml.merges"]]
    tokens = [*byte_letters().values(), *merged, "<|end|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("\n".join(["#", *TOKENIZER["tokenizer.ggml.merges"]]))
    theirs = GPT2Tokenizer(tmp_path)
    text = TEXT.replace("<think>", "")
    assert pieces(tokenizer_of(), text) == [theirs.decode([i]) for i in theirs.encode(text).tolist()]


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["the", " 12", "34", "'", "L", "L"]),
        ("smollm", ["the", " ", "1", "2", "3", "4", "'", "L", "L"]),
        ("llama-bpe", ["the", " ", "12", "3", "4", "'L", "L"]),
        ("qwen2", ["the", " ", "1", "2", "3", "4", "'L", "L"]),
    ],
)
def test_how_a_text_is_split(pre, expected):
    assert pieces(tokenizer_of(pre), "the 1234'LL") == expected


def test_a_normal_form():
    """Qwen2's tokenizer composes letters and accents first."""
    assert len(tokenizer_of("qwen2").encode("e\u0301")) == 2  # the bytes of é
    assert len(tokenizer_of("gpt-2").encode("e\u0301")) == 3


def test_whole_words_that_no_merge_makes():
    """Llama 3 takes a word that is a token as it is."""
    tokens = [*TOKENIZER["tokenizer.ggml.tokens"][:-2], "whole"]
    kinds = [*TOKENIZER["tokenizer.ggml.token_type"][:-2], 1]
    for pre, n in (("llama-bpe", 1), ("qwen2", 5)):
        assert len(tokenizer_of(pre, tokens=tokens, token_type=kinds).encode("whole")) == n


@pytest.mark.parametrize(
    ("pre", "changes", "bos"),
    [
        ("gpt-2", {}, None),
        ("gpt-2", {"add_bos_token": True}, 1),
        ("llama-bpe", {}, 1),
        ("llama-bpe", {"add_bos_token": False}, None),
    ],
)
def test_what_a_text_begins_with(pre, changes, bos):
    tokenizer = tokenizer_of(pre, **changes)
    assert tokenizer.bos == bos
    assert tokenizer.eot == 0
    assert bos not in tokenizer.encode("the").tolist()


def test_special_tokens():
    """What is special is plain text in a text; what only is used is found; what is unused is not there."""
    tokenizer = tokenizer_of()
    assert pieces(tokenizer, "<|end|><think>")[-1] == "<think>"
    assert len(tokenizer.encode("<|end|>")) == len("<|end|>")
    assert tokenizer.vocab_size == len(TOKENIZER["tokenizer.ggml.tokens"]) - 1


# By name, and wherever a model is named


def test_a_package_by_its_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(hub, "PACKAGES", ("a-model-in-a-package",))
    with pytest.raises(DataError, match="the package is not installed; pip install --no-deps a-model-in-a-package"):
        load_pretrained("a-model-in-a-package")
    (folder := tmp_path / "a_model_in_a_package").mkdir()
    (folder / "__init__.py").write_text("raise ImportError('it would need llama.cpp')")
    model = small("llama")
    publish(folder / "model.gguf", model, "llama")
    again, tokenizer = load_pretrained("a-model-in-a-package")
    same(again.flat.data, model.flat.data, "weights")
    assert find_chat("a-model-in-a-package", tokenizer) is not None
    assert "a_model_in_a_package" not in sys.modules


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("models/x.gguf", f"there is no file models/x.gguf in {tmp_path}")
    publish(tmp_path / "x.gguf", small("llama"), "llama")
    refused(tmp_path, "instead of a folder, FILE.gguf", "found      : x.gguf")


def test_without_the_library(tmp_path, monkeypatch):
    path = publish(tmp_path / "x.gguf", small("llama"), "llama")
    monkeypatch.setitem(sys.modules, "gguf", None)
    refused(path, "pip install 'tinygrad-lm[weights]'")


def test_the_template_and_the_way_out(tmp_path):
    """Exported, it is a folder of Hugging Face's layout: the same weights, the same ids."""
    path = publish(tmp_path / "x.gguf", small("llama"), "llama", metadata={"tokenizer.ggml.eot_token_id": 2})
    model, tokenizer = load_pretrained(path)
    chat = find_chat(path, tokenizer)
    question = [{"role": "user", "content": "the <|end|> 12"}]
    ids = chat.prompt(question).tolist()
    assert ids[0] == 1
    assert ids[-1] == 2
    assert 0 not in ids[1:-2]  # what a user writes is no end
    assert ids[-2] == 0
    assert chat.ends == {0, 2}
    export(model, tokenizer, folder := tmp_path / "out", chat_files(chat))
    again, their_tokenizer = load_pretrained(folder)
    same(again.flat.data, model.flat.data, "weights")
    assert again.config == model.config
    assert their_tokenizer.fingerprint == tokenizer.fingerprint
    assert find_chat(folder, their_tokenizer).prompt(question).tolist() == ids
    assert find_chat(folder, their_tokenizer).ends == chat.ends


def test_a_run_keeps_the_tokenizer(tmp_path):
    """Its files are written beside the run's, so the GGUF file may go."""
    path = publish(tmp_path / "x.gguf", small("llama"), "llama")
    _, tokenizer = load_pretrained(path)
    for name, content in tokenizer.contents().items():
        (tmp_path / name).write_bytes(content)
    again = tokenizer_from_dict(tokenizer.to_dict() | {"folder": str(tmp_path)})
    assert (again.eot, again.vocab_size) == (tokenizer.eot, tokenizer.vocab_size)
    assert find_chat(path, again) is not None
