"""A model to talk to, and its chat format: `load_chat("runs/my_run")`, `load_chat("Qwen/Qwen3-0.6B")`."""

from tinygrad_lm.adapt import grow, inherit, merge
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer, chat_template, json_object, read_files
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.chat.template import TemplateChat
from tinygrad_lm.pretrained.load import find_model, load_pretrained
from tinygrad_lm.train.command import vocab_size


def load_chat(where, device="auto", dtype="float32"):
    """Load (model, chat).

    where: as load_pretrained's. A run that was trained on conversations has its chat format in config.json, and a
    published model may have a template; any other model gets the built-in Chat, and rows for its special ids, which
    are drawn, so that it is ready to be trained.
    """
    model, tokenizer = load_pretrained(where, device, dtype)
    if any(".lora_" in name for name in model.flat):  # adapters become part of the weights, which can all be trained
        model = inherit(GPT(model.config, None, model.dtype, model.flat.device), merge(model))
    if chat := find_chat(where, tokenizer):
        return model, chat
    chat = Chat(tokenizer)
    rows = max(vocab_size(chat, model.flat.device), model.config.vocab_size)
    return grow(model, rows, tokenizer.vocab_size), chat


def find_chat(where, tokenizer):
    """The chat format that a model has; None if it has none."""
    config = json_object(read_files(find_model(str(where))), "config.json")
    if "chat" in config:
        return chat_from_dict(config["chat"], tokenizer)
    if isinstance(tokenizer, JsonTokenizer) and chat_template(tokenizer.files, tokenizer.folder) is not None:
        return TemplateChat(tokenizer)
    return None


def chat_from_config(run):
    """The chat format of a RunFolder. Raises ConfigError if the run has none."""
    if "chat" not in run.config:
        raise ConfigError(f"run: {run.path} was not trained on conversations: its config.json has no chat format")
    return chat_from_dict(run.config["chat"], run.tokenizer)


def chat_from_dict(d, tokenizer):
    """Restore the chat format that `to_dict` described."""
    if d.get("name") == "template":
        return TemplateChat(tokenizer, d["date"])
    if d.get("name") == "built-in":
        return Chat(tokenizer)
    raise ConfigError(f"chat: the format must be built-in or template, found {d!r:.100}")
