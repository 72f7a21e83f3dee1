"""GPT-2's tokenizer with a fine-tuned model's tokens: vocab.json, merges.txt, and what is written beside them."""

import json

from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END, byte_letters, read_vocabulary
from tinygrad_lm.data.tokenizers.json_tokenizer import end_ids, json_object
from tinygrad_lm.errors import DataError
from tinygrad_lm.pretrained.export_tokenizer import added_token, byte_level, json_bytes

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def more_than_gpt2(vocabulary, merges, files):
    """The files with a tokenizer.json that the others amount to; None if there is nothing beyond vocabulary and merges.

    vocabulary, merges: the paths of the two; files: {file name: content} of those beside them. Raises DataError.
    """
    pieces, ends = read_vocabulary(vocabulary, merges)
    try:
        settings = json_object(files, "special_tokens_map.json") | json_object(files, "tokenizer_config.json")
        special = [text_of(settings[name]) for name in SPECIAL if settings.get(name)]
        special += map(text_of, settings.get("additional_special_tokens") or [])
        decoder = {int(i): token for i, token in (settings.get("added_tokens_decoder") or {}).items()}
        special += [token["content"] for token in decoder.values() if token["special"]]
        ids = ends | json_object(files, "added_tokens.json")
        ids |= {token["content"]: i for i, token in decoder.items()}
        known = {text for text in special if text in ids}
        for text in dict.fromkeys(special):  # one without an id follows the others
            ids.setdefault(text, max(len(pieces), 1 + max(ids.values(), default=0)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the tokens beside {vocabulary} cannot be read: {type(error).__name__}: {error}") from error
    if sorted(ids.values()) != (expected := list(range(len(pieces), len(pieces) + len(ids)))):
        raise DataError(f"the tokens beside {vocabulary} have the ids {sorted(ids.values())}, expected {expected}")
    prefix = bool(settings.get("add_prefix_space"))
    named = {i for name in ("config.json", "generation_config.json") for i in end_ids(json_object(files, name))}
    if ids.keys() == ends.keys() and not prefix and known <= {END} and named <= {ids.get(END)}:
        return None
    letters = byte_letters()
    spelled = ["".join(letters[b] for b in piece) for piece in pieces]
    lines = merges.read_bytes().decode().split("\n")[1:]
    parts = byte_level(
        [], {text: i for i, text in enumerate(spelled)}, [line.split() for line in lines if line.strip()]
    )
    level = parts["pre_tokenizer"]["pretokenizers"][0]
    parts["pre_tokenizer"] = level | {"add_prefix_space": prefix, "use_regex": True}  # the expression is GPT-2's
    added = [
        added_token(i, text, text in special or text in ends) for text, i in sorted(ids.items(), key=lambda x: x[1])
    ]
    content = {"version": "1.0", "added_tokens": added, "normalizer": None, "post_processor": None} | parts
    settings = {"eos_token": END} | settings | {"tokenizer_class": "PreTrainedTokenizerFast"}
    return files | {"tokenizer.json": json_bytes(content), "tokenizer_config.json": json.dumps(settings).encode()}


def text_of(token):
    """The text of a token, which is a text or {"content": text, …}."""
    return token["content"] if isinstance(token, dict) else token
