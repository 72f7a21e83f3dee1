"""GGUF files as llama.cpp's converter writes them: models of ours, by the library's own writer, quantiser and names."""

import gguf
import numpy as np
from small_gpt import shaken, tiny

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import byte_letters
from tinygrad_lm.pretrained.export import stored_tensors

MERGES = ["t h", "th e", "Ġ the", "1 2", "Ġ 12", "3 4", "' L"]
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>"]
USED = "<think>"  # found in a text, but not special
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOKENS = [*SPECIAL, *byte_letters().values(), *("".join(merge.split()) for merge in MERGES), USED, "[PAD]"]
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 3, *[1] * (len(TOKENS) - 5), 4, 5],
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.chat_template": TEMPLATE,
}
ROTARY = {"norm": "rms", "position": "rotary", "activation": "silu", "gated": True, "gain": True}
SIZES = {"vocab_size": len(TOKENS), "block_size": 12, "n_layer": 2, "n_head": 4, "n_embd": 32, "n_hidden": 64}
SIZES |= {"norm_eps": 2.0**-10}
FAMILIES = {
    "gpt2": {},
    "llama": ROTARY | {"n_kv_head": 2, "bias": False, "rope_base": 5e5, "tied": False, "n_head_embd": 8},
    "qwen3": ROTARY | {"n_kv_head": 2, "bias": False, "rope_base": 1e6, "qk_norm": True, "n_head_embd": 128},
}


def small(kind, **changes):
    """A model of ours of a family, in float32."""
    return shaken(tiny("gpt2", **SIZES | FAMILIES[kind] | changes), dtype=np.float32)


def converted(model, kind):
    """(metadata, {name: array}) as convert_hf_to_gguf.py has them."""
    config = model.config
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, kind.upper()), config.n_layer)
    tensors = {}
    for name, w in stored_tensors(model, config).items():
        if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):  # Conv1D
            w = w.T
        if kind == "llama" and "q_proj" in name:
            w = permute(w, config.n_head)
        if kind == "llama" and "k_proj" in name:
            w = permute(w, config.kv_heads)
        tensors[names.get_name(name, (".weight", ".bias"))] = np.ascontiguousarray(w)
    metadata = {
        "context_length": config.block_size,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.hidden,
        "block_count": config.n_layer,
        "attention.head_count": config.n_head,
    }
    if kind == "gpt2":
        metadata |= {"attention.layer_norm_epsilon": config.norm_eps}
    else:
        metadata |= {"attention.layer_norm_rms_epsilon": config.norm_eps, "rope.freq_base": config.rope_base}
        metadata |= {"attention.head_count_kv": config.kv_heads, "vocab_size": config.vocab_size}
        metadata |= {f"attention.{part}_length": config.head_size for part in ("key", "value")}
        metadata |= {"rope.dimension_count": config.head_size}
    return {f"{kind}.{name}": value for name, value in metadata.items()}, tensors


def permute(w, heads):
    """LlamaModel.permute of llama.cpp's converter."""
    return w.reshape(heads, 2, len(w) // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def quantised(tensors, kind):
    """{name: (stored, kind)}: matrices of this kind, and in float32 what llama.cpp does not quantise."""
    wanted = {name: kind if w.ndim == 2 and "position" not in name else "F32" for name, w in tensors.items()}
    kinds = {name: gguf.GGMLQuantizationType[kind] for name, kind in wanted.items()}
    return {name: (gguf.quants.quantize(w, kinds[name]), kinds[name]) for name, w in tensors.items()}


def widened(tensors):
    """{name: array} of what `quantised` gave, by the library."""
    return {name: gguf.quants.dequantize(stored, kind) for name, (stored, kind) in tensors.items()}


def write(path, kind, metadata, tensors):
    """A file of an architecture. tensors: {name: (stored, kind)}; None removes what has it in metadata and tensors."""
    writer = gguf.GGUFWriter(path, kind)
    for name, value in metadata.items():
        if name == "general.alignment" and value:
            writer.add_custom_alignment(value)
        elif value is not None:
            writer.add_key_value(name, value, gguf.GGUFValueType.get_type(value))
    for name, tensor in tensors.items():
        if tensor is not None:
            writer.add_tensor(name, tensor[0], raw_dtype=tensor[1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def publish(path, model, kind, stored="F32", metadata=(), tensors=()):
    """A model of ours as a file with a tokenizer; metadata and tensors change what the converter would write."""
    named, arrays = converted(model, kind)
    return write(path, kind, named | TOKENIZER | dict(metadata), quantised(arrays, stored) | dict(tensors))
