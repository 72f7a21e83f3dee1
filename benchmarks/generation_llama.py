"""llama.cpp's side of generation.py, for an interpreter that has llama-cpp-python and gguf.

    PYTHON benchmarks/generation_llama.py WEIGHTS.npz

Reads GPT-2's weights under transformers' names, writes them as files of llama.cpp in float32, bfloat16 and its q8_0
beside them, and then answers lines of JSON {"kind", "threads", "prompts", "n"} with {"seconds", "texts"}: the likeliest
n tokens after each prompt; all prompts have one length and go through the model together.
"""

import ctypes
import json
import sys
import time
from functools import cache
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Kind

KINDS = {"float32": Kind.F32, "bfloat16": Kind.BF16, "q8": Kind.Q8_0}
NAMES = {
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip
CONTEXT, LAYERS, HEADS, CHANNELS = 1024, 12, 12, 768


def write(weights, kind, path):
    """A file of llama.cpp with matrices of this kind; what is added, and the table of positions, stay float32."""
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(CHANNELS)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(4 * CHANNELS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(len(weights["wte.weight"]))
    for full, w in weights.items():
        if full == "lm_head.weight":  # wte's
            continue
        name, _, letter = full.rpartition(".")
        place = ""
        if name.startswith("h."):
            _, number, name = name.split(".", 2)
            place = f"blk.{number}."
        if w.ndim == 2 and place:
            w = w.T  # theirs are (out, in)
        w = np.ascontiguousarray(w, np.float32)
        wanted = kind if w.ndim == 2 and name != "wpe" else Kind.F32
        data = w if wanted == Kind.F32 else gguf.quants.quantize(w, wanted)
        writer.add_tensor(f"{place}{NAMES[name]}.{letter}", data, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@cache
def loaded(path):
    options = llama_cpp.llama_model_default_params()
    options.use_extra_bufts = "q8" not in path.name  # its AMX kernels end with an illegal instruction on a Xeon here
    return llama_cpp.llama_model_load_from_file(str(path).encode(), options)


@cache
def context(path, threads, sequences):
    """A model at work, with a cache for so many texts."""
    options = llama_cpp.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = CONTEXT * sequences, 512, 512
    options.n_seq_max, options.n_threads, options.n_threads_batch = sequences, threads, threads
    return llama_cpp.llama_init_from_model(loaded(path), options)


def feed(here, batch, texts, start, vocabulary):
    """The likeliest token after each text, (B,), of which the tokens from `start` on are new to the cache."""
    batch.n_tokens = 0
    for row, text in enumerate(texts):
        for position in range(start, len(text)):
            i = batch.n_tokens
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = text[position], position, 1
            batch.seq_id[i][0], batch.logits[i] = row, position == len(text) - 1
            batch.n_tokens += 1
    if code := llama_cpp.llama_decode(here, batch):
        sys.exit(f"llama_decode: {code}")
    rows = [(row + 1) * (len(text) - start) - 1 for row, text in enumerate(texts)]
    logits = (llama_cpp.llama_get_logits_ith(here, i) for i in rows)
    return [int(np.ctypeslib.as_array(z, (vocabulary,)).argmax()) for z in logits]


def main():
    weights = dict(np.load(sys.argv[1]))
    vocabulary, folder = len(weights["wte.weight"]), Path(sys.argv[1]).parent
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    for name, kind in KINDS.items():
        write(weights, kind, folder / f"{name}.gguf")
    batch = llama_cpp.llama_batch_init(512, 0, 1)
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        texts, length = asked["prompts"], len(asked["prompts"][0])
        here = context(folder / f"{asked['kind']}.gguf", asked["threads"], len(texts))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(here), True)
        began, start = time.perf_counter(), 0
        for _ in range(asked["n"]):
            tokens, start = feed(here, batch, texts, start, vocabulary), len(texts[0])
            texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "texts": [text[length:] for text in texts]}), flush=True)


if __name__ == "__main__":
    main()
