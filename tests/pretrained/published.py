"""Models as transformers publishes them: of drawn shapes, with random weights; and what compares them with ours."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers
from hypothesis import strategies as st

from tinygrad_lm.pretrained import gpt2, llama
from tinygrad_lm.pretrained.load import load_hugging_face

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

ROPES = [
    {"rope_type": "default", "rope_theta": 10000.0},
    {"rope_type": "default", "rope_theta": 500000.0},
    {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    },
]
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@contextmanager
def in_double():
    """Within the block single precision is double, in which transformers always computes norms and angles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def random_weights(model, seed):
    """Every weight away from zero, gains near 1."""
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        p.data = torch.randn_like(p) * 0.3 + (1.0 if "norm" in name or ".ln_" in name else 0.0) * (p.ndim == 1)
    model.tie_weights()
    return model.eval()


def gpt2_config(draw):
    H, D = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return transformers.GPT2Config(
        vocab_size=draw(st.integers(2, 9)),
        n_positions=draw(st.integers(2, 8)),
        n_layer=draw(st.integers(1, 2)),
        n_head=H,
        n_embd=H * D,
        n_inner=draw(st.sampled_from([None, 5])),
        activation_function=draw(st.sampled_from(["gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu"])),
        layer_norm_epsilon=draw(st.sampled_from([1e-5, 1e-3])),
        tie_word_embeddings=draw(st.booleans()),
        bos_token_id=0,
        eos_token_id=0,
        reorder_and_upcast_attn=False,
    )


def llama_config(draw, kind=transformers.LlamaConfig):
    G, R, D = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    bias = kind is transformers.LlamaConfig and draw(st.booleans())
    return kind(
        vocab_size=draw(st.integers(2, 9)),
        max_position_embeddings=draw(st.integers(2, 16)),
        num_hidden_layers=draw(st.integers(1, 2)),
        num_attention_heads=G * R,
        num_key_value_heads=G,
        head_dim=2 * D,
        hidden_size=G * R * draw(st.integers(1, 4)),
        intermediate_size=draw(st.integers(1, 9)),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-3])),
        rope_parameters=dict(draw(st.sampled_from(ROPES))),
        hidden_act=draw(st.sampled_from(["silu", "relu", "gelu_pytorch_tanh"])),
        tie_word_embeddings=draw(st.booleans()),
        attention_bias=bias,
        **({"mlp_bias": bias} if kind is transformers.LlamaConfig else {}),
        bos_token_id=0,
        eos_token_id=0,
    )


def qwen3_config(draw):
    return llama_config(draw, transformers.Qwen3Config)


FAMILIES = {"gpt2": gpt2_config, "llama": llama_config, "qwen3": qwen3_config}


@st.composite
def models(draw, family=None, dtype=torch.float64):
    """A model of transformers, and tokens (B, T + 1) for it."""
    config = FAMILIES[family or draw(st.sampled_from(list(FAMILIES)))](draw)
    seed = draw(st.integers(0, 2**32 - 1))
    with in_double():
        model = random_weights(transformers.AutoModelForCausalLM.from_config(config), seed).to(dtype)
    T = draw(st.integers(1, min(7, config.max_position_embeddings)))
    return model, np.random.default_rng(seed).integers(0, config.vocab_size, (draw(st.integers(1, 2)), T + 1))


def ours(folder, dtype=np.float64):
    """The model that is in a folder, without a tokenizer."""
    from tinygrad_lm.pretrained.fields import read_json

    return load_hugging_face(folder, read_json(folder / "config.json"), "cpu", dtype)


def placed(model, arrays):
    """Arrays by our names, put together as the tensors of the model's family in Hugging Face's layout."""
    tensors = {}
    family = gpt2 if model.config.norm == "layer" else llama
    for place in family.places(model):
        place.view(tensors.setdefault(place.tensor, np.full(place.shape, np.nan)))[...] = arrays[place.parameter]
    return tensors
