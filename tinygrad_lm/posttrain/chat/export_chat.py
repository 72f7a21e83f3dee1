"""A chat format as the files that transformers reads, for export: its apply_chat_template gives the same ids."""

import json

from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer
from tinygrad_lm.data.tokenizers.json_tokenizer import TEMPLATE, json_object
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.chat.chat import SPECIAL, Chat, name_of
from tinygrad_lm.pretrained.export_tokenizer import added_token, json_bytes, tokenizer_files

BUILT_IN = (
    f"{{{{ '{name_of('begin')}' }}}}{{% for message in messages %}}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '" + name_of("end") + "' }}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{name_of('assistant')}' }}}}{{% endif %}}"
)


def chat_files(chat):
    """{file name: content}: those of the tokenizer, with the template, special tokens, and the ids that end a text."""
    generation = {"eos_token_id": sorted(chat.ends)}
    if not isinstance(chat, Chat):
        generation = json_object(chat.tokenizer.files, "generation_config.json") | generation
        return tokenizer_files(chat.tokenizer) | {"generation_config.json": json_bytes(generation)}
    tokenizer = chat.tokenizer
    if isinstance(tokenizer, GPT2Tokenizer):  # its own two files have no place for special tokens
        known = len(tokenizer.vocabulary) - (tokenizer.eot is not None)
        tokenizer = BPETokenizer(tokenizer.vocabulary[:known], map(bytes.decode, tokenizer.vocabulary[known:]))
    files = tokenizer_files(tokenizer)
    content, settings = (json.loads(files.get(name, "{}")) for name in ("tokenizer.json", "tokenizer_config.json"))
    texts = {token["content"] for token in content["added_tokens"]} & set(map(name_of, SPECIAL))
    if texts:
        raise ConfigError(f"export: the tokenizer has {', '.join(sorted(texts))} itself, so the chat's cannot be added")
    content["added_tokens"] += [added_token(i, name_of(name)) for name, i in chat.special.items()]
    settings |= {"eos_token": name_of("end")}
    return files | {
        "tokenizer.json": json_bytes(content),
        "tokenizer_config.json": json_bytes(settings),
        "generation_config.json": json_bytes(generation),
        TEMPLATE: BUILT_IN.encode(),
    }
