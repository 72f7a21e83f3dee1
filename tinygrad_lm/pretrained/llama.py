"""Llama in Hugging Face's layout: LlamaForCausalLM, and Qwen3ForCausalLM, which normalises queries and keys."""

import re

import numpy as np

from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.pretrained.fields import ACTIVATIONS, NAMES, check_fields, positive
from tinygrad_lm.pretrained.places import Place

SIZES = (
    "vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_size",
    "intermediate_size",
)
DEFAULTS = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
DEFAULT_HEAD = {"llama": 0, "qwen3": 128}  # head_dim where it is absent; 0: hidden_size / num_attention_heads
FLAGS = ("attention_bias", "mlp_bias", "tie_word_embeddings")
ONLY = {
    "llama": {"is_causal": True},  # else transformers lets every position see the whole text
    "qwen3": {"is_causal": True, "use_sliding_window": False, "attention_bias": False},
}
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
PREFIX = "model."  # of all tensors but the head's
SPARE = re.compile(r"\.rotary_emb\.inv_freq$")  # the frequencies, which old files also hold

MODULES = {
    "wte": "embed_tokens",
    "ln_f": "norm",
    "lm_head": "lm_head",
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "mlp.c_gate": "mlp.gate_proj",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}


def read_config(config):
    """The GPTConfig of a config.json."""
    config, kind = DEFAULTS | config, config["model_type"]
    numbers = ("rms_norm_eps", "softcap") if config.get("softcap") else ("rms_norm_eps",)
    check_fields(config, SIZES, ("num_key_value_heads", "head_dim"), numbers, "hidden_act", FLAGS, ONLY[kind])
    bias = bool(config.get("attention_bias"))
    if bool(config.get("mlp_bias")) != bias:
        raise ConfigError(
            "config.json: attention_bias and mlp_bias must be equal, because all of our layers have biases or none has"
        )
    base, scaling = read_rope(config)
    return GPTConfig(
        vocab_size=config["vocab_size"],
        block_size=config["max_position_embeddings"],
        n_layer=config["num_hidden_layers"],
        n_head=config["num_attention_heads"],
        n_kv_head=config.get("num_key_value_heads") or 0,
        n_embd=config["hidden_size"],
        n_hidden=config["intermediate_size"],
        n_head_embd=config.get("head_dim") or DEFAULT_HEAD[kind],
        norm="rms",
        norm_eps=config["rms_norm_eps"],
        gain=True,
        position="rotary",
        rope_base=base,
        rope_scaling=scaling,
        activation=ACTIVATIONS[config["hidden_act"]],
        gated=True,
        bias=bias,
        qk_norm=kind == "qwen3",
        tied=bool(config["tie_word_embeddings"]),
        softcap=config.get("softcap") or 0.0,  # written by our own export
    )


def read_rope(config):
    """(base, scaling), from rope_parameters (transformers 5) or from rope_theta and rope_scaling (before)."""
    rope = {"rope_theta": 10000.0 if config.get("rope_theta") is None else config["rope_theta"]}
    for name in ("rope_scaling", "rope_parameters"):
        if not isinstance(config.get(name), dict | None):
            raise ConfigError(f"config.json: {name} must be an object, found {config[name]!r}")
        rope |= config.get(name) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3") or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError(f"config.json: rope_type must be default or llama3, with all channels rotated, found {rope}")
    scaling = LLAMA3 if kind == "llama3" else ()
    if missing := [name for name in scaling if name not in rope]:
        raise ConfigError(f"config.json: rotary scaling llama3 lacks {', '.join(missing)}, found {rope}")
    check_ranges("config.json", positive(rope, ("rope_theta", *scaling)))
    if scaling:
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        check_ranges("config.json", {"low_freq_factor": (low, f"below high_freq_factor, {high}", low < high)})
    return rope["rope_theta"], tuple(rope[name] for name in scaling)


def write_config(config):
    """The config.json of a GPTConfig with these parts, as a dict; read_config's inverse."""
    kind = "qwen3" if config.qk_norm else "llama"
    rope = {"rope_type": "default", "rope_theta": config.rope_base}
    if config.rope_scaling:
        rope |= {"rope_type": "llama3"} | dict(zip(LLAMA3, config.rope_scaling, strict=True))
    return {
        "model_type": kind,
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "hidden_size": config.n_embd,
        "intermediate_size": config.hidden,
        "head_dim": config.head_size,
        "rms_norm_eps": config.norm_eps or 1e-6,
        "rope_parameters": rope,
        "rope_theta": config.rope_base,  # this and the next for transformers before 5
        "rope_scaling": rope if config.rope_scaling else None,
        "hidden_act": NAMES[config.activation],
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "tie_word_embeddings": config.tied,
        "attention_dropout": config.dropout,
    }


def places(model, prefix=PREFIX):
    """Their Linear stores (out, in), ours (in, out). prefix: of what is not the head"""
    for name, p in model.flat.items():
        _, block, module, kind = re.fullmatch(r"(h\.(\d+)\.)?(.*)\.(\w+)", name).groups()
        theirs = f"layers.{block}." * (block is not None) + f"{MODULES[module]}.{kind}"
        theirs = theirs if module == "lm_head" else prefix + theirs
        if p.ndim == 2 and module != "wte":
            yield Place(name, theirs, p.shape[::-1], np.transpose)
        else:
            yield Place(name, theirs, p.shape)
