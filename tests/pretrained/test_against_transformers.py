"""Published models beside transformers, the library that they are published with: the same numbers out of them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import differentiate

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.testing.checks import agree

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
transformers = pytest.importorskip("transformers", reason="transformers, the oracle of these tests, is not installed")
import safetensors.torch  # noqa: E402
from pretrained.published import FAMILIES, in_double, models, ours, placed  # noqa: E402

families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lambda: tmp_path_factory.mktemp("model")


def their_logits(model, x):
    with torch.no_grad(), in_double():
        return model(torch.tensor(x)).logits.double().numpy()


def edit(path, **changes):
    """Change fields of a config.json; None removes one."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


@families
@settings(max_examples=20)
@given(data=st.data())
def test_logits_loss_and_gradients(folder, family, data):
    theirs, tokens = data.draw(models(family))
    theirs.save_pretrained(path := folder())
    model, x, y = ours(path), tokens[:, :-1], tokens[:, 1:]
    agree(model(x).data, their_logits(theirs, x), "logits")

    loss, _ = differentiate(model, x, y)
    with in_double():
        logits = theirs(torch.tensor(x)).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten())
        expected.backward()
    agree(loss, expected.item(), "loss")
    found = placed(model, {name: p.grad for name, p in model.flat.items()})
    wanted = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert found.keys() == wanted.keys()
    for name in wanted:
        agree(found[name], wanted[name], f"gradient of {name}", 1e-12)


@pytest.mark.slow
@families
@settings(max_examples=10)
@given(data=st.data())
def test_single_precision(folder, family, data):
    """As everybody runs it, with nothing patched."""
    theirs, tokens = data.draw(models(family, torch.float32))
    theirs.save_pretrained(path := folder())
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens[:, :-1])).logits.numpy()
    found = ours(path, np.float32)(tokens[:, :-1]).data
    assert found.dtype == np.float32
    agree(found, expected, "logits", 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@families
@settings(max_examples=5)
@given(data=st.data())
def test_half_precision_is_widened(folder, family, dtype, data):
    theirs, tokens = data.draw(models(family))
    for p in theirs.parameters():
        p.data = p.data.to(dtype).double()
    theirs.save_pretrained(path := folder())
    stored = safetensors.torch.load_file(path / "model.safetensors")
    safetensors.torch.save_file({name: w.to(dtype) for name, w in stored.items()}, path / "model.safetensors")
    agree(ours(path)(tokens[:, :-1]).data, their_logits(theirs, tokens[:, :-1]), "logits")


@families
@settings(max_examples=5)
@given(data=st.data())
def test_several_files(folder, family, data):
    theirs, tokens = data.draw(models(family))
    theirs.save_pretrained(path := folder(), max_shard_size=20)
    assert len(list(path.glob("model-*.safetensors"))) > 1
    agree(ours(path)(tokens[:, :-1]).data, their_logits(theirs, tokens[:, :-1]), "logits")


def one(family, **fixed):
    """A small model of a family."""
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 7, "n_positions": 6}
    if family != "gpt2":
        sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": 7}
        sizes |= {"num_key_value_heads": 1, "intermediate_size": 9, "max_position_embeddings": 6, "head_dim": 4}
    kind = {"gpt2": "GPT2", "llama": "Llama", "qwen3": "Qwen3"}[family]
    config = getattr(transformers, f"{kind}Config")(**sizes | {"bos_token_id": 0, "eos_token_id": 0} | fixed)
    from pretrained.published import random_weights

    with in_double():
        return random_weights(transformers.AutoModelForCausalLM.from_config(config), 3).double()


TOKENS = np.array([[1, 5, 2, 6, 0]])


def test_old_files_of_gpt2(folder):
    """Without `transformer.`, and with the masks, as OpenAI's weights were first put on the hub."""
    theirs = one("gpt2")
    theirs.save_pretrained(path := folder())
    tensors = {name: p.detach().clone() for name, p in theirs.transformer.named_parameters()}
    tensors |= {"h.0.attn.bias": torch.ones(1, 1, 6, 6), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    agree(ours(path)(TOKENS).data, their_logits(theirs, TOKENS), "logits")


@families
def test_a_model_without_a_head(folder, family):
    """As GPT2Model, LlamaModel and Qwen3Model save themselves; the head is the embedding, or is missing."""
    theirs = one(family, tie_word_embeddings=True)
    theirs.base_model.save_pretrained(path := folder())
    agree(ours(path)(TOKENS).data, their_logits(theirs, TOKENS), "logits")
    edit(path / "config.json", tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"lm_head.weight is missing"):
        ours(path)


def test_the_other_names_of_gpt2_s_fields(folder):
    theirs = one("gpt2")
    theirs.save_pretrained(path := folder())
    names = {"n_embd": "hidden_size", "n_positions": "max_position_embeddings"}
    names |= {"n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
    config = json.loads((path / "config.json").read_text())
    edit(path / "config.json", **{new: config[old] for old, new in names.items()}, **dict.fromkeys(names))
    agree(ours(path)(TOKENS).data, their_logits(theirs, TOKENS), "logits")


@families
def test_a_tied_head_may_be_in_the_file_if_it_is_the_embedding(folder, family):
    theirs = one(family, tie_word_embeddings=True)
    theirs.save_pretrained(path := folder())
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    table = theirs.get_input_embeddings().weight.detach()
    safetensors.torch.save_file(tensors | {"lm_head.weight": table.clone()}, path / "model.safetensors")
    agree(ours(path)(TOKENS).data, their_logits(theirs, TOKENS), "logits")
    safetensors.torch.save_file(tensors | {"lm_head.weight": table + 1}, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head.weight is not the token embedding, though config.json says"):
        ours(path)


@pytest.mark.parametrize("rope_type", ["type", "rope_type"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_rotary_positions_as_transformers_4_wrote_them(folder, family, rope_type):
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 5}
    theirs = one(family, rope_parameters=scaling | {"rope_type": "llama3", "rope_theta": 100.0})
    theirs.save_pretrained(path := folder())
    expected = their_logits(theirs, TOKENS)
    edit(
        path / "config.json",
        rope_parameters=None,
        rope_theta=100.0,
        rope_scaling=scaling | {rope_type: "llama3"},
    )
    agree(ours(path)(TOKENS).data, expected, "logits")
    edit(path / "config.json", rope_theta=None)
    assert abs(ours(path)(TOKENS).data - expected).max() > 1e-3  # so the base was read


@families
def test_an_absent_field_has_the_value_that_transformers_gives_it(folder, family):
    theirs = one(family, **({} if family == "gpt2" else {"head_dim": {"llama": 4, "qwen3": 128}[family]}))
    theirs.save_pretrained(path := folder())
    optional = ["activation_function", "hidden_act", "layer_norm_epsilon", "rms_norm_eps", "tie_word_embeddings"]
    edit(path / "config.json", **dict.fromkeys([*optional, "n_inner", "head_dim", "attention_bias", "rope_parameters"]))
    agree(ours(path)(TOKENS).data, their_logits(theirs, TOKENS), "logits")
