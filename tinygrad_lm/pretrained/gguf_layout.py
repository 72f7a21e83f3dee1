"""What llama.cpp's converter wrote into a GGUF file, as our model: GPT-2, Llama or Qwen3.

Its metadata are fields of config.json by other names. Its matrices are stored (out, in), GPT-2's too. For Llama it
reordered the rows of each head's queries and keys: llama.cpp turns the pairs (2i, 2i + 1), Hugging Face and this
package the pairs (i, i + D/2).
Source: llama.cpp, convert_hf_to_gguf.py (LlamaModel.permute) and gguf-py/gguf/constants.py.
"""

import re

import numpy as np

from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.pretrained import gpt2, llama
from tinygrad_lm.pretrained.places import Place

# {name in the metadata, after the architecture's: name in config.json}
GPT2 = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "block_count": "n_layer",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
LLAMA = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
REQUIRED = {"gpt2": GPT2, "llama": LLAMA, "qwen3": LLAMA | {"attention.key_length": "head_dim"}}
ROTARY = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
}
OPTIONAL = {"gpt2": {}, "llama": ROTARY, "qwen3": ROTARY}
ONLY = {"general.type": "model", "split.count": 1}

MODULES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "lm_head": "output",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_q": "attn_q",
    "attn.c_k": "attn_k",
    "attn.c_v": "attn_v",
    "attn.c_proj": "attn_output",
    "attn.q_norm": "attn_q_norm",
    "attn.k_norm": "attn_k_norm",
    "mlp.c_gate": "ffn_gate",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def read_config(file):
    """The GPTConfig of a GGUFFile. Raises ConfigError for what is missing or what our model cannot express."""
    metadata = ONLY | file.metadata
    kind = metadata.get("general.architecture")
    settings = {name: (metadata[name], f"{only!r} or absent", metadata[name] == only) for name, only in ONLY.items()}
    settings["general.architecture"] = kind, f"one of {', '.join(REQUIRED)}", kind in list(REQUIRED)
    check_ranges("metadata", settings)
    prefix = f"{kind}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    if lacking := [prefix + name for name in REQUIRED[kind] if name not in own]:
        raise ConfigError(f"metadata: found no {', '.join(lacking)}, which a model needs")

    fields = REQUIRED[kind] | OPTIONAL[kind]
    (vocab_size, *_), _ = file.shapes.get("token_embd.weight", ((1,), None))  # if missing, copy_weights reports it
    config = {fields[name]: own[name] for name in fields if name in own}
    config |= {"model_type": kind, "vocab_size": vocab_size, "tie_word_embeddings": "output.weight" not in file}
    config |= dict.fromkeys(("attention_bias", "mlp_bias"), "blk.0.attn_q.bias" in file)
    blocks, stated = len({name.split(".")[1] for name in file if name.startswith("blk.")}), own["block_count"]
    check_ranges("metadata", {f"{prefix}block_count": (stated, f"{blocks}, as the tensors say", stated == blocks)})
    found = (gpt2 if kind == "gpt2" else llama).read_config(config)

    # What else the metadata may say without a change to what the model computes.
    same = {
        "vocab_size": vocab_size,
        "attention.head_count_kv": found.kv_heads,
        "attention.value_length": found.head_size,
        "rope.dimension_count": found.head_size,
        "rope.scaling.type": "none",
        "attention.causal": True,
        "expert_count": 0,
        "expert_used_count": 0,
    }
    others = sorted(own.keys() - fields.keys() - {"tensor_data_layout"})
    rules = {name: f"{same[name]!r} or absent" if name in same else "absent" for name in others}
    check_ranges("metadata", {prefix + name: (own[name], rules[name], own[name] == same.get(name)) for name in others})
    return found


def places(model, kind):
    """Where each parameter is; `kind` is general.architecture. The views are for loading: some are copies."""
    C, D = model.config.n_embd, model.config.head_size
    for name, p in model.flat.items():
        _, block, module, letter = re.fullmatch(r"(h\.(\d+)\.)?(.*)\.(\w+)", name).groups()
        tensor, shape, part = MODULES[module], p.shape, np.asarray
        matrix = p.ndim == 2 and module not in ("wte", "wpe")
        if matrix:
            shape = shape[::-1]
        if kind == "gpt2" and module in ("attn.c_q", "attn.c_k", "attn.c_v"):
            start = "qkv".index(module[-1]) * C
            tensor, shape, part = "attn_qkv", (3 * C, *shape[1:]), rows(start, start + C)
        elif kind == "llama" and module in ("attn.c_q", "attn.c_k"):
            part = unpaired(D)
        view = (lambda stored, part=part: part(stored).T) if matrix else part
        yield Place(name, f"blk.{block}." * (block is not None) + f"{tensor}.{letter}", shape, view)


def rows(start, stop):
    return lambda stored: stored[start:stop]


def unpaired(D):
    """Rows of heads of D, from pairs (2i, 2i + 1) to pairs (i, i + D/2)."""
    return lambda stored: stored.reshape(-1, D // 2, 2, *stored.shape[1:]).swapaxes(1, 2).reshape(stored.shape)
