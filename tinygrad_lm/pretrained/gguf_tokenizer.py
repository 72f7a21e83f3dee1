"""The tokenizer in a GGUF file, as the files that the model was published with."""

import json

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import PATTERN
from tinygrad_lm.errors import check_ranges
from tinygrad_lm.pretrained.export_tokenizer import added_token, byte_level, split

ENDING = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + ENDING
QWEN2 = CL100K.replace("{1,3}", "")
# tokenizer.ggml.pre: how a text is split into words, and the parts of tokenizer.json that are not the same for all.
# Source: llama.cpp, src/llama-vocab.cpp, and the tokenizer.json of GPT-2, SmolLM2, Llama 3 and Qwen3
SPLITS = {
    "gpt-2": [split(PATTERN)],
    "smollm": [{"type": "Digits", "individual_digits": True}, split(PATTERN)],
    "llama-bpe": [split(CL100K)],
    "qwen2": [split(QWEN2)],
}
OTHERS = {"llama-bpe": {"ignore_merges": True}}
NORMALIZERS = {"qwen2": {"type": "NFC"}}
BEGIN = {"llama-bpe"}  # a text begins with bos unless add_bos_token says otherwise
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # tokenizer.ggml.token_type
NAMES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
ENDS = ("eos", "eot", "eom")  # of a text, of a turn, of a message


def published_files(metadata):
    """{file name: content}: tokenizer.json, tokenizer_config.json with the chat template, generation_config.json.

    Raises ConfigError for another kind of tokenizer, and for fields that are missing.
    """
    own = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    ids = {name: own[f"{name}_token_id"] for name in {*NAMES.values(), *ENDS} if f"{name}_token_id" in own}
    check_fields(own, ids)
    pre, tokens = own["pre"], own["tokens"]
    kinds = own.get("token_type", [0] * len(tokens))
    vocabulary = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    merges = [merge.split(" ") for merge in own["merges"]]
    added = [
        added_token(i, tokens[i], kind == CONTROL) for i, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)
    ]
    begins = own.get("add_bos_token", pre in BEGIN) and "bos" in ids
    content = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": NORMALIZERS.get(pre),
        "post_processor": beginning(tokens[ids["bos"]], ids["bos"]) if begins else None,
    }
    settings = {name: tokens[ids[ours]] for name, ours in NAMES.items() if ours in ids}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if template := metadata.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    generation = {"bos_token_id": ids.get("bos"), "eos_token_id": [ids[name] for name in ENDS if name in ids]}
    return {
        name: json.dumps(part, ensure_ascii=False).encode()  # without indent, which would take most of the time
        for name, part in (
            ("tokenizer.json", content | byte_level(SPLITS[pre], vocabulary, merges, **OTHERS.get(pre, {}))),
            ("tokenizer_config.json", settings),
            ("generation_config.json", generation),
        )
    }


def check_fields(own, ids):
    """Raise ConfigError unless these are the fields of a tokenizer that we can rebuild."""
    kind, pre, tokens, merges = map(own.get, ("model", "pre", "tokens", "merges"))
    are_texts = lambda x: isinstance(x, list) and all(isinstance(text, str) for text in x)
    few = lambda x: x[:3] if isinstance(x, list) else x
    size = len(tokens) if are_texts(tokens) else 0
    kinds = own.get("token_type", [0] * size)
    settings = {
        "model": (kind, "gpt2, which is byte pair encoding", kind == "gpt2"),
        "pre": (pre, f"one of {', '.join(SPLITS)}", pre in list(SPLITS)),
        "tokens": (few(tokens), "different texts", size and len(set(tokens)) == size),
        "merges": (few(merges), "pairs of tokens", are_texts(merges) and all(m.count(" ") == 1 for m in merges)),
        "token_type": (few(kinds), "one for each token", isinstance(kinds, list) and len(kinds) == size),
    }
    settings |= {f"{name}_token_id": (i, "a token's", type(i) is int and 0 <= i < size) for name, i in ids.items()}
    check_ranges("metadata", {f"tokenizer.ggml.{name}": setting for name, setting in settings.items()})


def beginning(token, i):
    """The post-processor that puts a token before every text."""
    single = [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 0}}]
    special = {token: {"id": token, "ids": [i], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
