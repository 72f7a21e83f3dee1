"""Our models as others load them: the same numbers, the same tokens."""

import json
import os
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrained.small_models import SEVEN, make_run
from safetensors import SafetensorError
from small_gpt import random_tokens, shaken, tiny
from small_run import example, status

from tinygrad_lm.data.tokenizers.bpe import ALPHABET, count_words, learn_merges
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import PATTERN
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer, CharTokenizer, GPT2Tokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.models.config import PRESETS, GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.testing.checks import agree

FRENCH = "Voilà, l'été — “déjà” 🦢!\n\n  x"


@st.composite
def expressible(draw):
    """Any configuration that a layout of Hugging Face's can express."""
    layer, softcap = draw(st.booleans()), draw(st.sampled_from([0.0, 3.0]))
    G, D = draw(st.integers(1, 2)), 2 * draw(st.integers(1, 2))
    H = G if layer else G * draw(st.integers(1, 2))
    common = {
        "n_layer": draw(st.integers(1, 2)),
        "n_head": H,
        "n_embd": H * D,
        "n_hidden": draw(st.sampled_from([0, 5])),
        "norm_eps": draw(st.sampled_from([0.0, 1e-3])),
        "tied": draw(st.booleans()),
    }
    if layer:
        activation = draw(st.sampled_from(["gelu", "gelu_tanh", "relu", "relu_squared", "silu"]))
        return GPTConfig(7, 6, **common, activation=activation, bias=draw(st.booleans()))
    qk_norm, gated = draw(st.booleans()), draw(st.booleans())
    activations = ["gelu", "gelu_tanh", "relu", "relu_squared", "silu"] if gated else ["relu_squared"]
    return GPTConfig(
        7,
        6,
        **common,
        n_kv_head=G,
        n_head_embd=draw(st.sampled_from([0, 6])),
        norm="rms",
        gain=draw(st.booleans()),
        position="rotary",
        rope_base=draw(st.sampled_from([10000.0, 50.0])),
        rope_scaling=draw(st.sampled_from([(), (8.0, 1.0, 4.0, 5)])),
        activation=draw(st.sampled_from(activations)),
        gated=gated,
        bias=not qk_norm and draw(st.booleans()),
        qk_norm=qk_norm,
        softcap=softcap * qk_norm,
    )


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    return lambda: tmp_path_factory.mktemp("export") / "model"


@pytest.mark.slow
@settings(max_examples=40)
@given(config=expressible(), seed=st.integers(0, 2**32 - 1), rank=st.sampled_from([0, 0, 2]))
def test_there_and_back(new, config, seed, rank):
    model = shaken(config, seed, rank=rank)
    export(model, SEVEN, folder := new())
    again, tokenizer = load_pretrained(folder, dtype=np.float64)
    x, _ = random_tokens(config, 2, 6, seed)
    agree(again(x).data, model(x).data, "logits")
    assert tokenizer.encode("a—b! c\n").tolist() == SEVEN.encode("a—b! c\n").tolist()
    assert not list(folder.parent.glob(".*"))


@pytest.mark.slow
@settings(max_examples=25)
@given(config=expressible(), seed=st.integers(0, 2**32 - 1), rank=st.sampled_from([0, 0, 2]))
def test_transformers_gives_the_same(new, config, seed, rank):
    export(model := shaken(config, seed, rank=rank), SEVEN, folder := new())
    same_in_transformers(model, folder, seed, "TinygradLMForCausalLM" if config.softcap else None)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(new, preset):
    export(model := shaken(tiny(preset, n_embd=16)), SEVEN, folder := new())
    same_in_transformers(model, folder, 1, "TinygradLMForCausalLM" if "modern" in preset else "GPT2LMHeadModel")


def same_in_transformers(model, folder, seed, architecture):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    from pretrained.published import in_double

    with in_double():
        theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, trust_remote_code=True, output_loading_info=True
        )
        assert not any(told.values())
        assert type(theirs).__name__ == (architecture or theirs.config.architectures[0])
        x, _ = random_tokens(model.config, 2, 4, seed)
        with torch.no_grad():
            found = theirs(torch.tensor(x), labels=torch.tensor(x))
    agree(found.logits.numpy(), model(x).data, "logits")
    agree(found.loss.item(), cross_entropy(model(x[:, :-1]), x[:, 1:]).item(), "loss")


def test_without_trust_the_order_of_tokens_is_the_same(new):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    export(model := shaken(tiny("modern")), SEVEN, folder := new())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    x, _ = random_tokens(model.config, 2, 5)
    with torch.no_grad():
        order = theirs(torch.tensor(x)).logits.numpy().argsort(-1)
    assert np.array_equal(order, model(x).data.argsort(-1))
    ids = theirs.generate(torch.tensor(x[:1, :2]), max_new_tokens=2, do_sample=False, pad_token_id=0)[0].tolist()
    assert ids[:3] == [*x[0, :2].tolist(), int(model(x[:1, :2]).data[0, -1].argmax())]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"norm": "layer", "position": "rotary", "qk_norm": True}, ["position = 'rotary'", "qk_norm = True"]),
        ({"norm": "layer", "n_kv_head": 1, "gated": True}, ["n_kv_head = 1", "gated = True"]),
        ({"norm": "layer", "n_head_embd": 2, "softcap": 3.0}, ["n_head_embd = 2", "softcap = 3.0"]),
        ({"norm": "rms", "position": "learned", "activation": "silu"}, ["position = 'learned'", "gated = False"]),
        ({"norm": "rms", "position": "rotary", "gated": True, "softcap": 3.0}, ["Llama", "softcap = 3.0"]),
        ({"norm": "rms", "position": "rotary", "gated": True, "qk_norm": True}, ["Qwen3", "bias = True"]),
        ({"norm": "rms", "position": "rotary", "gated": True, "n_embd": 7, "n_head_embd": 4}, ["n_embd = 7"]),
    ],
)
def test_what_no_layout_expresses_is_refused(changes, fields, tmp_path):
    config = GPTConfig(7, 5, **{"n_layer": 1, "n_head": 2, "n_embd": 8} | changes)
    with pytest.raises(ConfigError) as caught:
        export(GPT(config), SEVEN, tmp_path / "model")
    for field in fields:
        assert field in str(caught.value)
    assert str(caught.value).count(" = ") == 1 + sum(" = " in field for field in fields)
    assert not list(tmp_path.iterdir())


def test_adapters_become_a_part_of_their_weights(new):
    export(model := shaken(tiny("gpt2"), rank=2), SEVEN, folder := new())
    again, _ = load_pretrained(folder, dtype=np.float64)
    assert abs(again.flat["h.0.mlp.c_fc.weight"].data - model.flat["h.0.mlp.c_fc.weight"].data).max() > 0.01
    assert not any("lora" in name for name in again.flat)
    assert any("lora" in name for name in model.flat)  # the exported model is unchanged


# Files


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ConfigError, match="model exists; give the name of a new folder"):
        export(shaken(tiny("gpt2")), SEVEN, tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    import safetensors.numpy

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device; make room"):
        export(shaken(tiny("gpt2")), SEVEN, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (SafetensorError("I/O error: No space left on device (os error 28)"), "make room, or give a folder on another"),
        (SafetensorError("I/O error: Permission denied (os error 13)"), "give a folder that can be written to"),
        (PermissionError(13, "Permission denied"), "give a folder that can be written to"),
    ],
)
def test_the_way_out_fits_the_error(error, hint, tmp_path, monkeypatch):
    def fails(*arguments):
        raise error

    monkeypatch.setattr("safetensors.numpy.save_file", fails)
    with pytest.raises(CheckpointError) as caught:
        export(shaken(tiny("gpt2")), SEVEN, tmp_path / "model")
    assert f"{error}; {hint}" in str(caught.value)


def test_the_program(tmp_path, capsys):
    model = make_run(tmp_path / "run")
    assert status(example("export").main, tmp_path / "run", tmp_path / "model") == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'model'}\n"
    again, _ = load_pretrained(tmp_path / "model")
    x, _ = random_tokens(model.config, 2, 5)
    agree(again(x).data, model(x).data, "logits", 1e-5)
    assert status(example("export").main, tmp_path / "run", tmp_path / "model") == 2
    assert capsys.readouterr().err.startswith("error: export: ")


# Tokenizers


@pytest.fixture(scope="module")
def tokenizers():
    return pytest.importorskip("tokenizers")


def exported(tokenizer, new, size):
    config = replace(tiny("gpt2"), vocab_size=size)
    export(GPT(config), tokenizer, folder := new())
    return folder


@settings(max_examples=30)
@given(text=st.text(min_size=1), more=st.text())
def test_characters(tokenizers, new, text, more):
    tokenizer = CharTokenizer.from_text(text + more)
    folder = exported(tokenizer, new, tokenizer.vocab_size)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert library.encode(text).ids == tokenizer.encode(text).tolist()
    assert library.decode(tokenizer.encode(more).tolist()) == more


@settings(max_examples=30)
@given(text=st.text())
def test_bytes(tokenizers, new, text):
    folder = exported(ByteTokenizer(), new, 256)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert library.encode(text).ids == list(text.encode())
    assert library.decode(list(text.encode())) == text


def learnt(text, **options):
    merges = islice(learn_merges(count_words([text])), 12)
    return BPETokenizer([*ALPHABET, *(left + right for left, right in merges)], **options)


@pytest.mark.parametrize("pattern", [PATTERN, r"\p{N}|[^\p{N}]+"])
@settings(max_examples=15)
@given(text=st.text("ab12 \n") | st.text(st.characters(exclude_categories=("Cs", "Cn"))), more=st.text())
def test_byte_pairs(tokenizers, new, pattern, text, more):
    tokenizer = learnt(text, pattern=pattern, special=["<|a|>", "<|endoftext|>"])
    folder = exported(tokenizer, new, tokenizer.vocab_size)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert library.encode(text).ids == tokenizer.encode(text).tolist()
    assert library.decode(tokenizer.encode(more).tolist()) == more
    assert library.token_to_id("<|endoftext|>") == tokenizer.eot == tokenizer.vocab_size - 1


@pytest.mark.parametrize("kind", ["char", "byte", "gpt2", "bpe"])
def test_transformers_reads_the_same_ids(new, kind):
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    if kind == "gpt2" and "TIKTOKEN_CACHE_DIR" not in os.environ:
        pytest.skip("TIKTOKEN_CACHE_DIR names no folder with GPT-2's vocabulary")
    known = {"char": CharTokenizer.from_text(FRENCH), "byte": ByteTokenizer(), "bpe": learnt(FRENCH)}
    tokenizer = known.get(kind) or GPT2Tokenizer()
    folder = exported(tokenizer, new, tokenizer.vocab_size)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(FRENCH).tolist()
    assert theirs(FRENCH).input_ids == ids
    assert theirs.decode(ids, clean_up_tokenization_spaces=False) == FRENCH
    assert theirs.eos_token_id == tokenizer.eot
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eot
    again, read = load_pretrained(folder)
    assert read.encode(FRENCH).tolist() == ids
    assert read.eot == tokenizer.eot
    exported(read, new, again.config.vocab_size)  # what was read is written once more
