"""load_chat: any model with its chat format; the weights are as they were, and a run's format is in its folder."""

import json

import numpy as np
import pytest
from chat_templates import CHATML
from small_chats import json_tokenizer, make_base, turns

from tinygrad_lm.adapt import lora
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer, CharTokenizer
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.chat.load import chat_from_config, chat_from_dict, load_chat
from tinygrad_lm.posttrain.chat.template import TemplateChat
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.train.run import RunFolder

TOKENIZER = CharTokenizer(" abc")
SETTINGS = {"chat_template": CHATML, "eos_token": "<|im_end|>"}
SPECIAL = ("<|im_start|>", "<|im_end|>")


@pytest.mark.parametrize("tied", [False, True])
def test_any_model_gets_rows_for_the_special_ids(tied, tmp_path):
    base = make_base(tmp_path / "run", TOKENIZER, tied=tied)
    model, chat = load_chat(tmp_path / "run")
    assert type(chat) is Chat
    assert model.config.vocab_size == chat.vocab_size == base.config.vocab_size + 5
    x = np.array([[0, 1, 2, 3, 1]])
    agree(model(x).data[..., :4], base(x).data, "logits", 1e-6)
    again, _ = load_chat(tmp_path / "run")
    assert (again.flat.data == model.flat.data).all()


def test_rows_that_pad_a_published_embedding_are_used(tmp_path):
    tokenizer = json_tokenizer(tmp_path, ["<|endoftext|>"])
    known = tokenizer.vocab_size
    for padding, expected in ((0, known + 5), (3, known + 5), (60, known + 60)):
        base = make_base(tmp_path / f"run {padding}", tokenizer, vocab_size=known + padding)
        export(base, tokenizer, tmp_path / f"published {padding}")
        model, chat = load_chat(tmp_path / f"published {padding}")
        assert (type(chat), chat.begin, model.config.vocab_size) == (Chat, known, expected)


def test_a_published_template(tmp_path):
    """In a published folder, and in a run that began with its tokenizer; the model is as it was."""
    tokenizer = json_tokenizer(tmp_path, SPECIAL, settings=SETTINGS)
    base = make_base(tmp_path / "run", tokenizer)
    export(base, tokenizer, tmp_path / "published")
    x = np.arange(10)[None]
    for folder in ("run", "published"):
        model, chat = load_chat(tmp_path / folder)
        assert type(chat) is TemplateChat
        assert chat.tokenizer.decode(chat.prompt(turns("Hi"))).endswith("user\nHi<|im_end|>\n<|im_start|>assistant\n")
        agree(model(x).data, base(x).data, "logits", 1e-6)


def test_a_gpt_2_with_a_template_takes_its_special_tokens_from_tokenizer_json(tmp_path):
    """Its other two files do not have them."""
    tokenizer = json_tokenizer(tmp_path, SPECIAL, settings=SETTINGS)
    shape = {"norm": "layer", "position": "learned", "qk_norm": False, "activation": "gelu_tanh", "bias": True}
    base = make_base(tmp_path / "run", tokenizer, softcap=0.0, zero_init=False, gated=False, **shape)
    export(base, tokenizer, tmp_path / "published")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "published" / name).write_text("{}")
    assert json.loads((tmp_path / "published" / "config.json").read_text())["model_type"] == "gpt2"
    assert type(load_chat(tmp_path / "published")[1]) is TemplateChat


def test_a_run_says_what_its_format_is(tmp_path):
    make_base(tmp_path / "run", TOKENIZER)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run was not trained on conversations: its config.json has no chat format"):
        chat_from_config(run)
    run.config["chat"] = Chat(TOKENIZER).to_dict()
    run.write_config()
    assert type(chat_from_config(RunFolder(tmp_path / "run"))) is Chat
    model, chat = load_chat(tmp_path / "run")
    assert model.config.vocab_size == chat.tokenizer.vocab_size  # not grown again
    with pytest.raises(ConfigError, match=r"the format must be built-in or template, found .'name': 'alpaca'"):
        chat_from_dict({"name": "alpaca"}, TOKENIZER)


def test_adapters_become_weights(tmp_path):
    make_base(tmp_path / "run", ByteTokenizer())
    run = RunFolder(tmp_path / "run")
    adapted = lora(run.best_model(), 2)
    rng = np.random.default_rng(0)
    for name, p in adapted.flat.items():
        if ".lora_" in name:
            p.data = (0.1 * rng.standard_normal(p.shape)).astype(np.float32)
    run.config["train"]["lora"] = 2
    run.write_config()
    run.write_checkpoint({"model": adapted.flat.arrays()}, 2)
    model, _ = load_chat(tmp_path / "run")
    assert model.flat.trained == list(model.flat)
    assert not any(".lora_" in name for name in model.flat)
    x = np.array([[65, 66, 67]])
    agree(model(x).data[..., :256], RunFolder(tmp_path / "run").best_model()(x).data, "logits", 1e-5)
