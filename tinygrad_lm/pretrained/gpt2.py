"""GPT-2 in Hugging Face's layout and in OpenAI's. Both pack the matrices of queries, keys and values into one."""

import re

import numpy as np

from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.pretrained.fields import ACTIVATIONS, NAMES, check_fields, unaliased
from tinygrad_lm.pretrained.places import Place, columns

SIZES = ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")
DEFAULTS = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
FLAGS = ("tie_word_embeddings",)
ONLY = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "is_causal": True,  # else transformers lets every position see the whole text
}
# Other names of four fields, which transformers reads too.
ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
PREFIX = "transformer."  # of all tensors but the head's
SPARE = re.compile(r"\.attn\.(masked_)?bias$")  # the causal mask, which old files also hold


def read_config(config):
    """The GPTConfig of a config.json, without its dropout, which is a choice of training."""
    config = DEFAULTS | unaliased(config, ALIASES)
    check_fields(config, SIZES, ("n_inner",), ("layer_norm_epsilon",), "activation_function", FLAGS, ONLY)
    return GPTConfig(
        vocab_size=config["vocab_size"],
        block_size=config["n_positions"],
        n_layer=config["n_layer"],
        n_head=config["n_head"],
        n_embd=config["n_embd"],
        n_hidden=config.get("n_inner") or 0,
        norm_eps=config["layer_norm_epsilon"],
        activation=ACTIVATIONS[config["activation_function"]],
        tied=bool(config["tie_word_embeddings"]),
    )


def write_config(config):
    """The config.json of a GPTConfig, as a dict; read_config's inverse."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": config.n_hidden or None,
        "layer_norm_epsilon": config.norm_eps or 1e-5,
        "activation_function": NAMES[config.activation],
        "tie_word_embeddings": config.tied,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
    }


def read_hparams(hparams):
    """The GPTConfig of OpenAI's hparams.json."""
    names = {"model_type": "gpt2", "vocab_size": hparams.get("n_vocab"), "n_positions": hparams.get("n_ctx")}
    return read_config(hparams | names)


def places(model, prefix=PREFIX):
    """Hugging Face's layout. Their Conv1D stores (in, out), as we do; their head, a Linear, stores (out, in)."""
    C = model.config.n_embd
    for name, p in model.flat.items():
        *path, layer, kind = name.split(".")
        if name == "lm_head.weight":
            yield Place(name, name, p.shape[::-1], np.transpose)
        elif layer in ("c_q", "c_k", "c_v"):
            start = "qkv".index(layer[-1]) * C
            packed = ".".join([*path, "c_attn", kind])
            yield Place(name, prefix + packed, (*p.shape[:-1], 3 * C), columns(start, start + C))
        else:
            yield Place(name, prefix + name, p.shape)


def openai_places(model):
    """OpenAI's layout: model/h0/attn/c_attn/w of shape (1, C, 3C), model/h0/ln_1/g, model/wte, …"""
    for place in places(model, prefix=""):
        *path, layer, kind = re.sub(r"h\.(\d+)", r"h\1", place.tensor).split(".")
        name = "/".join(["model", *path, layer])
        if layer in ("wte", "wpe"):
            yield place._replace(tensor=name)
        elif kind == "bias":
            yield place._replace(tensor=f"{name}/b")
        elif layer.startswith("ln"):
            yield place._replace(tensor=f"{name}/g")
        else:
            view = lambda stored, view=place.view: view(stored[0])
            yield Place(place.parameter, f"{name}/w", (1, *place.shape), view)
