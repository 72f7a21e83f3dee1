"""Layouts are recognised by their files; one message lists everything that does not fit."""

import json
import math
import os
import shutil
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrained.bundle_writer import write_bundle
from pretrained.make_tf_fixtures import FOLDER, HPARAMS, value
from pretrained.small_models import SEVEN, make_run
from small_gpt import shaken, tiny

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError, DataError
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained import gpt2, hub
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.llama import LLAMA3, read_config, write_config
from tinygrad_lm.pretrained.load import load_openai, load_pretrained
from tinygrad_lm.pretrained.places import copy_weights
from tinygrad_lm.pretrained.safetensors_folder import SafetensorsFolder
from tinygrad_lm.pretrained.tensor_bundle import TensorBundle
from tinygrad_lm.testing.checks import agree, same
from tinygrad_lm.train.run import RunFolder

LLAMA = {"norm": "rms", "position": "rotary", "activation": "silu", "gated": True, "bias": False, "tied": False}


def weights(model):
    return {name: p.data for name, p in model.flat.items()}


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    return lambda: tmp_path_factory.mktemp("load")


@pytest.fixture
def folder(tmp_path):
    """A GPT-2 in Hugging Face's layout with a tokenizer of seven characters."""
    export(shaken(tiny("gpt2", tied=False)), SEVEN, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def llama(tmp_path):
    export(shaken(tiny("gpt2", **LLAMA)), SEVEN, tmp_path / "llama")
    return tmp_path / "llama"


def change(folder, tensors=None, **fields):
    """Change the weights (None removes one) and the fields of a folder."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    if tensors:
        stored = safetensors.numpy.load_file(folder / "model.safetensors") | tensors
        stored = {name: array for name, array in stored.items() if array is not None}
        safetensors.numpy.save_file(stored, folder / "model.safetensors")


def refused(where, *fragments, error=CheckpointError):
    with pytest.raises(error) as caught:
        load_pretrained(where)
    for fragment in (*fragments, str(where)):
        assert fragment in str(caught.value), str(caught.value)
    return str(caught.value)


# Runs of ours


def test_a_run(tmp_path):
    model = make_run(tmp_path / "run")
    again, tokenizer = load_pretrained(tmp_path / "run")
    for name, w in weights(model).items():
        same(weights(again)[name], w, name)
    assert tokenizer.characters == SEVEN.characters
    assert load_pretrained(tmp_path / "run", dtype=np.float64)[0].flat.data.dtype == np.float64


def test_a_published_model_is_not_a_run(folder):
    """As for `learn doctor`; one without a model_type may be a published model that is damaged."""
    with pytest.raises(
        CheckpointError, match=r'"model", "train", "tokenizer", so it is not a run\'s; it is a published'
    ):
        RunFolder(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, 'its config.json should have a "model_type": fetch it again')


def test_a_damaged_run(tmp_path):
    make_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    refused(tmp_path / "run", "holds no whole checkpoint")


# OpenAI's layout


def openai_tensors(model):
    tensors = {}
    for place in gpt2.openai_places(model):
        place.view(tensors.setdefault(place.tensor, np.empty(place.shape)))[...] = weights(model)[place.parameter]
    return tensors


def write_openai(model, folder, **more):
    config = model.config
    hparams = {"n_vocab": config.vocab_size, "n_ctx": config.block_size, "n_embd": config.n_embd}
    hparams |= {"n_head": config.n_head, "n_layer": config.n_layer}
    (folder / "hparams.json").write_text(json.dumps(hparams))
    write_bundle(folder / "model.ckpt", openai_tensors(model) | more)
    return folder


@settings(max_examples=20)
@given(H=st.integers(1, 3), D=st.integers(1, 3), V=st.integers(1, 9), layers=st.integers(1, 3), seed=st.integers(0, 99))
def test_openai_s_layout(new, H, D, V, layers, seed):
    model = shaken(GPTConfig(V, 5, n_layer=layers, n_head=H, n_embd=H * D), seed)
    folder = write_openai(model, new())
    again = load_openai(folder, "cpu", np.float64)
    assert again.config == GPTConfig(V, 5, n_layer=layers, n_head=H, n_embd=H * D, norm_eps=1e-5)
    for name, w in weights(model).items():
        same(weights(again)[name], w, name)


def test_openai_s_shapes_are_those_that_tensorflow_wrote():
    """The fixture has the names and shapes of the real model, made small."""
    model = GPT(gpt2.read_hparams(HPARAMS), None)
    shapes = {name: shape for name, (shape, _) in TensorBundle(FOLDER / "gpt2" / "model.ckpt").shapes.items()}
    assert shapes == {name: array.shape for name, array in openai_tensors(model).items()}


def test_a_checkpoint_that_tensorflow_wrote():
    model = load_openai(FOLDER / "gpt2", "cpu", np.float32)
    C = model.config.n_embd
    packed = value("model/h0/attn/c_attn/w", (1, C, 3 * C))
    same(weights(model)["h.0.attn.c_k.weight"], packed[0, :, C : 2 * C], "keys")
    same(weights(model)["wpe.weight"], value("model/wpe", (model.config.block_size, C)), "positions")


def test_openai_s_files_that_do_not_fit(tmp_path):
    model = shaken(tiny("gpt2"))
    write_openai(model, tmp_path, **{"model/h0/attn/c_attn/w": np.zeros((1, 8, 8)), "model/h7/ln_1/g": np.zeros(8)})
    refused(
        tmp_path,
        "model/h0/attn/c_attn/w has shape (1, 8, 8), expected (1, 8, 24)",
        "model/h7/ln_1/g has no place in this configuration",
    )
    (tmp_path / "hparams.json").write_text("{}")
    refused(tmp_path, "vocab_size must be a positive whole number, found None", "n_head must be", error=ConfigError)
    (tmp_path / "hparams.json").write_text("[")
    refused(tmp_path, "hparams.json is damaged")


# Hugging Face's layout: what is wrong with the weights


def test_all_that_does_not_fit_is_told_at_once(folder):
    zeros = np.zeros((8, 8))
    change(
        folder,
        {
            "transformer.wpe.weight": None,
            "transformer.h.0.attn.c_attn.weight": zeros,
            "transformer.h.1.mlp.c_fc.bias": np.zeros(32, np.int32),
            "transformer.h.2.ln_1.weight": np.zeros(8),
        },
    )
    message = refused(
        folder,
        "transformer.wpe.weight is missing",
        "transformer.h.0.attn.c_attn.weight has shape (8, 8), expected (8, 24)",
        "transformer.h.1.mlp.c_fc.bias is stored as I32, expected floating-point numbers of 16 to 64 bits",
        "transformer.h.2.ln_1.weight has no place in this configuration",
    )
    assert len(message.splitlines()) == 5


def test_a_head_that_is_missing(folder):
    change(folder, {"lm_head.weight": None})
    refused(folder, "lm_head.weight is missing")


def test_a_message_has_an_end(folder):
    change(folder, {f"transformer.h.{i}.ln_1.weight": np.zeros(8) for i in range(2, 102)})
    assert refused(folder, "and 70 more").count("has no place") == 30


def test_other_weights_by_the_llama_s_side(llama):
    change(llama, {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(2)})
    load_pretrained(llama)
    change(llama, {"model.layers.0.self_attn.q_norm.weight": np.zeros(4)})
    refused(llama, "model.layers.0.self_attn.q_norm.weight has no place in this")


def test_eight_bit_floats_are_refused(folder):
    header = {"transformer.wte.weight": {"dtype": "F8_E4M3", "shape": [7, 8], "data_offsets": [0, 56]}}
    content = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(56))
    refused(folder, "transformer.wte.weight is stored as F8_E4M3, expected floating-point numbers")


@given(data=st.data())
@settings(max_examples=30)
def test_a_damaged_file(new, data):
    export(shaken(tiny("gpt2")), SEVEN, folder := new() / "model")
    path = folder / "model.safetensors"
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:cut])
    refused(folder, "model.safetensors: ", "download the whole file again")
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, 400))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with suppress(CheckpointError):  # or what changed was a comment
        load_pretrained(folder)


def test_a_file_that_shrinks_after_it_was_checked(folder):
    tensors = SafetensorsFolder(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"model.safetensors: expected \d+ bytes of .*, found \d+; download it"):
        dict(tensors)


def test_one_tensor_at_a_time(new):
    """Besides the model itself, loading needs the memory of its largest tensor as it is stored."""
    config = tiny("gpt2", n_embd=64, vocab_size=3000, tied=False)
    for dtype, times in (("float32", 1), ("float16", 0.5)):
        export(shaken(config, dtype=np.float32), SEVEN, folder := new() / "model")
        stored = safetensors.numpy.load_file(folder / "model.safetensors")
        safetensors.numpy.save_file({name: w.astype(dtype) for name, w in stored.items()}, folder / "model.safetensors")
        model, tensors = GPT(config, None), SafetensorsFolder(folder)
        tracemalloc.start()
        copy_weights(model, tensors, list(gpt2.places(model)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        largest = 3000 * 64 * 4
        assert times * largest <= peak < 1.2 * times * largest


# Several files


def shard(folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        safetensors.numpy.save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    return files


def test_the_index_of_several_files(folder):
    expected, _ = load_pretrained(folder, dtype=np.float64)
    files = shard(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    same(load_pretrained(folder, dtype=np.float64)[0].flat.data, expected.flat.data, "weights")
    index.write_text(json.dumps({"weight_map": files | {"more": "model-00001-of-00002.safetensors"}}))
    refused(folder, "lists tensors that the files lack: more of model-00001-of-00002.safetensors")
    index.write_text(json.dumps({"weight_map": files | {"more": "../model-00001-of-00002.safetensors"}}))
    refused(folder, "expected files of this folder, found '../model-00001-of-00002.safetensors'")
    index.write_text(json.dumps({"weight_map": files | {"more": "model-3.safetensors"}}))
    refused(folder, "model-3.safetensors", "there : ", "model-00002-of-00002.safetensors")
    index.write_text(json.dumps({"weights": files}))
    refused(folder, "expected weight_map, with the file of each tensor")


# Configurations


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scale_attn_weights", False, "scale_attn_weights must be True, the only supported value, found False"),
        (
            "scale_attn_by_inverse_layer_idx",
            True,
            "scale_attn_by_inverse_layer_idx must be False, the only supported value, found True",
        ),
        ("add_cross_attention", True, "add_cross_attention must be False, the only supported value, found True"),
        ("activation_function", "tanh", "activation_function must be one of gelu, gelu_new, "),
        ("layer_norm_epsilon", 0, "layer_norm_epsilon must be a positive number, found 0"),
        ("n_inner", 2.5, "n_inner must be a positive whole number, found 2.5"),
        ("n_head", "2", "n_head must be a positive whole number, found '2'"),
        ("n_head", 3, "n_embd must be a multiple of n_head 3, found 8"),
        ("quantization_config", {"bits": 4}, "quantised weights are not supported"),
        ("is_causal", False, "is_causal must be True, the only supported value, found False"),
        ("num_attention_heads", 4, "n_head = 2 and num_attention_heads = 4 are two values of one field"),
        ("model_type", "mamba", "model_type must be gpt2, llama or qwen3, found 'mamba'"),
    ],
)
def test_a_gpt2_that_ours_cannot_be(folder, field, value, message):
    change(folder, **{field: value})
    refused(folder, message, error=ConfigError)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_bias": True}, "attention_bias and mlp_bias must be equal"),
        ({"mlp_bias": True}, "attention_bias and mlp_bias must be equal"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 4}},
            "rope_type must be default or llama3, with all channels rotated, found {",
        ),
        (
            {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}},
            "rope_type must be default or llama3, with all",
        ),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4}}, "lacks low_freq_factor, high_freq_factor, orig"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_type must be default or llama3, with all"),
        ({"rope_parameters": "abc"}, "rope_parameters must be an object, found 'abc'"),
        ({"rope_parameters": None, "rope_scaling": ["llama3"]}, "rope_scaling must be an object, found ['llama3']"),
        ({"rope_parameters": None, "rope_theta": "1e4"}, "rope_theta must be a positive number, found '1e4'"),
        ({"rope_parameters": None, "rope_theta": 0}, "rope_theta must be a positive number, found 0"),
        ({"rope_parameters": {"rope_theta": [1]}}, "rope_theta must be a positive number, found [1]"),
        (
            {"rope_parameters": {"rope_type": "llama3"} | dict(zip(LLAMA3, ["a", 1, 4, -5], strict=True))},
            "factor must be a positive number, found 'a'; original_max_position_embeddings must be a positive number",
        ),
        ({"softcap": "x"}, "softcap must be a positive number, found 'x'"),
        ({"rms_norm_eps": math.inf}, "rms_norm_eps must be a positive number, found inf"),
        ({"attention_bias": "no"}, "attention_bias must be true or false, found 'no'"),
        ({"tie_word_embeddings": 2}, "tie_word_embeddings must be true or false, found 2"),
        ({"hidden_act": "mish"}, "hidden_act must be one of"),
        ({"head_dim": -4}, "head_dim must be a positive whole number, found -4"),
        ({"head_dim": 5}, "head size must be even for rotary positions, found 5"),
        ({"is_causal": False}, "is_causal must be True, the only supported value, found False"),
        ({"model_type": "qwen3", "is_causal": False}, "is_causal must be True, the only supported value, found False"),
        (
            {"rope_parameters": dict.fromkeys(LLAMA3, 4.0) | {"rope_type": "llama3", "low_freq_factor": 5.0}},
            "low_freq_factor must be below high_freq_factor, 4.0, found 5.0",
        ),
        ({"rms_norm_eps": None}, "rms_norm_eps must be a positive number, found None"),
        ({"vocab_size": True}, "vocab_size must be a positive whole number, found True"),
        (
            {"model_type": "qwen3", "use_sliding_window": True},
            "use_sliding_window must be False, the only supported value, found True",
        ),
        (
            {"model_type": "qwen3", "attention_bias": True},
            "attention_bias must be False, the only supported value, found True",
        ),
    ],
)
def test_a_llama_that_ours_cannot_be(llama, fields, message):
    change(llama, **fields)
    refused(llama, message, error=ConfigError)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_null_is_false(kind):
    config = write_config(tiny("gpt2", **LLAMA, qk_norm=kind == "qwen3"))
    null = dict.fromkeys(("attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window", "softcap"))
    found = read_config(config | null)
    assert found == read_config(config)
    assert (found.bias, found.tied, found.softcap) == (False, False, 0.0)


def test_several_problems_of_a_configuration_are_told_at_once(folder):
    change(folder, n_layer=0, scale_attn_weights=False)
    refused(folder, "n_layer must be", "scale_attn_weights must be True", error=ConfigError)


# Places and names


def test_a_folder_with_nothing_in_it(tmp_path):
    refused(tmp_path, "holds no model that can be loaded", "hparams.json", "*.safetensors", "found      : nothing")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "tf_model.h5", "flax_model.msgpack"])
def test_what_may_hold_code_is_refused(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    hints = (f"refused    : {name}", "pickle files run code when they are loaded", "save_pretrained(new_folder)")
    refused(folder, *hints)
    refused(folder / name, "is a file, expected a folder", *hints[1:])


def test_another_file(folder):
    refused(folder / "model.safetensors", "is a file, expected a folder; give the folder that contains it")


def test_a_damaged_configuration(folder):
    (folder / "config.json").write_text("{")
    refused(folder, "config.json is damaged", "download it again")
    (folder / "config.json").write_text("[]")
    refused(folder, "config.json is damaged: expected an object, found list")


def test_a_name_that_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(
        "no model", f"no model is neither a folder in {tmp_path} nor the name of a model", "gpt2-xl", "openai:1558M"
    )


def test_a_mistyped_run_is_not_sent_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "from_hub", None)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    refused("runs/tyni", "runs has no folder tyni; did you mean runs/tiny?", "of the Hugging Face hub")
    refused("runs/x", "runs has no folder x\n")
    refused("gtp2", "did you mean gpt2", "names : gpt2,")
    (tmp_path / "tiny.gguf").touch()
    refused("tini.gguf", f"there is no file tini.gguf in {tmp_path}; did you mean tiny.gguf?")


def test_names_are_asked_of_the_hub(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "from_hub", lambda name: asked.append(name) or folder)
    monkeypatch.setattr(hub, "from_openai", lambda size: asked.append(size) or folder)
    for name in ("gpt2", "gpt2-xl", "Qwen/Qwen3-0.6B-Base", "openai:124M"):
        load_pretrained(name)
    assert asked == ["gpt2", "gpt2-xl", "Qwen/Qwen3-0.6B-Base", "124M"]


# Tokenizers


def test_a_tokenizer_of_another_model(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"a": 3', '"a": 3, "d": 7'))
    refused(folder, "the tokenizer has 8 tokens, the model 7; they belong to different models")
    path.write_text(path.read_text().replace('"a": 3, "d": 7', '"a": 3').replace('"—": 6', '"—": 5'))
    assert load_pretrained(folder)[1].vocab_size == 6  # models pad their table


def test_a_llama_without_a_tokenizer(llama):
    (llama / "tokenizer.json").unlink()
    refused(llama, "it has no tokenizer.json; download the file", error=DataError)


def test_the_end_of_a_text(folder):
    assert load_pretrained(folder)[1].eot is None
    change(folder, eos_token_id=[5, 4])
    assert load_pretrained(folder)[1].eot == 5
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "!"}}')
    assert load_pretrained(folder)[1].eot == 2


@pytest.fixture
def gpt2_files():
    if "TIKTOKEN_CACHE_DIR" not in os.environ:
        pytest.skip("TIKTOKEN_CACHE_DIR names no folder with GPT-2's vocabulary")
    return GPT2Tokenizer().files


@pytest.mark.slow
@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"), ()])
def test_the_whole_way_with_gpt_2_s_own_tokens(gpt2_files, names, tmp_path):
    """From a prompt over tokens and logits to a text, the model being a small one with random weights."""
    model = shaken(tiny("gpt2", vocab_size=50257, block_size=16), dtype=np.float32)
    if names[:1] == ("encoder.json",):
        folder = write_openai(model, tmp_path)
    else:
        export(model, SEVEN, folder := tmp_path / "model")
        (folder / "tokenizer.json").unlink()
    for path, name in zip(gpt2_files, names, strict=False):
        shutil.copy(path, folder / name)
    again, tokenizer = load_pretrained(folder)
    assert tokenizer.eot == 50256
    assert tokenizer.bos is None
    assert bool(tokenizer.folder) == bool(names)
    prompt = tokenizer.encode("Hello, I'm a language model,")
    assert prompt.tolist() == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    agree(again(prompt[None]).data, model(prompt[None]).data, "logits", 1e-5)
    drawn = list(generate(again, prompt, 6, temperature=0))
    text = tokenizer.decode(drawn)
    assert drawn == list(generate(model, prompt, 6, temperature=0))
    assert text
    assert text == "".join(tokenizer.stream(drawn))


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe", "vocab.json", "merges.txt"])
def test_half_a_vocabulary(name, tmp_path):
    """It is not OpenAI's, for the model has a vocabulary of its own; not even if the number of tokens is right."""
    export(shaken(tiny("gpt2", vocab_size=50257, n_embd=2, n_head=1)), SEVEN, folder := tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / name).write_text("{}")
    pairs = {"encoder.json": "vocab.bpe", "vocab.json": "merges.txt"}
    other = (pairs | {b: a for a, b in pairs.items()})[name]
    refused(
        folder, f"tokenizer: found {name}, but not {other}, which belongs to it; download the file", error=DataError
    )


@pytest.mark.parametrize("vocab_size", [7, 50256, 51257])
def test_a_gpt_2_of_other_tokens_without_a_tokenizer(vocab_size, tmp_path):
    export(shaken(tiny("gpt2", vocab_size=vocab_size, n_embd=2, n_head=1)), SEVEN, folder := tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    refused(folder, "no vocab.json + merges.txt", f"the model's {vocab_size} tokens are not the 50257", error=DataError)


@pytest.mark.parametrize("vocab_size", [50257, 50304, 51256])
def test_a_padded_gpt_2_without_a_tokenizer(vocab_size, gpt2_files, tmp_path):
    export(shaken(tiny("gpt2", vocab_size=vocab_size, n_embd=2, n_head=1)), SEVEN, folder := tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    assert load_pretrained(folder)[1].vocab_size == 50257


def test_somebody_else_s_vocabulary_under_gpt_2_s_names(folder):
    """A tokenizer.json beside it says what it is."""
    Path(folder, "vocab.json").write_text('{"<|endoftext|>": 0, "a": 1}')
    Path(folder, "merges.txt").write_text("#version: 0.2\n")
    assert load_pretrained(folder)[1].name == "tokenizer.json"
    (folder / "tokenizer.json").unlink()
    refused(folder, "are not a vocabulary like GPT-2's: expected the ids of 256 bytes", error=DataError)


# Weights


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_reported(folder, llama, value):
    """By the tensor's name, the parameter's, and how many."""
    for where, name, parameter in ((folder, "transformer.h.0.attn.c_attn.weight", "h.0.attn.c_k.weight"),
                                   (llama, "model.layers.0.mlp.up_proj.weight", "h.0.mlp.c_fc.weight")):  # fmt: skip
        w = safetensors.numpy.load_file(where / "model.safetensors")[name].copy()
        w[1, 12 if where == folder else 0] = value
        w[0, 11 if where == folder else 1] = -value
        change(where, {name: w})
        refused(where, "weights are damaged", f"{name}: 2 of the ", f" values of {parameter} are not finite")


def test_an_index_that_was_left_behind(folder, capsys):
    """Saving one file over several removes them, but not their index; transformers takes the file, too."""
    expected = load_pretrained(folder, dtype=np.float64)[0].flat.data
    whole = (folder / "model.safetensors").read_bytes()
    index = {"weight_map": shard(folder)}
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    stored = safetensors.numpy.load_file(folder / "model-00001-of-00002.safetensors")
    safetensors.numpy.save_file({n: w + 1 for n, w in stored.items()}, folder / "model-00001-of-00002.safetensors")
    same(load_pretrained(folder, dtype=np.float64)[0].flat.data, expected, "weights")
    assert "holds model.safetensors, which is read, and the files of model.safetensors.ind" in capsys.readouterr().err
    for path in folder.glob("model-*"):
        path.unlink()
    same(load_pretrained(folder, dtype=np.float64)[0].flat.data, expected, "weights")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_], ids=["int32", "uint8", "bool"])
def test_a_tensor_that_is_not_of_floating_point(tmp_path, dtype):
    safetensors.numpy.save_file({"x": np.zeros(3, dtype), "y": np.ones(2)}, tmp_path / "model.safetensors")
    tensors = SafetensorsFolder(tmp_path)
    assert tensors["y"].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match=r"x is stored as (I32|U8|BOOL), expected one of F64, F32, F16, BF16"):
        tensors["x"]


def test_a_tensor_of_more_axes_than_numpy_has(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="x has 65 axes; NumPy's arrays have at most 64"):
        SafetensorsFolder(tmp_path)
