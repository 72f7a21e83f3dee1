"""The README.md of an exported model: it says what is known, and its lines for transformers run."""

import re

import numpy as np
import pytest
from pretrained.small_models import SEVEN, make_run
from small_chats import tokenizer_named
from small_gpt import shaken, tiny
from small_run import editing, example, status

from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.chat.export_chat import chat_files
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.train.run import RunFolder


def card_of(folder):
    return (folder / "README.md").read_text("utf-8")


def trained(path, data):
    """A run with one measured checkpoint, of its second step."""
    model = make_run(path)
    with editing(path) as config:
        config |= {"title": "tiny on a novel", "data": data, "base": "/home/me/base", "levels": {"uniform": 1.9459}}
        config["train"] |= {"batch_size": 3, "accumulate": 4, "seed": 5}
    run = RunFolder(path)
    run.log_validation(2, {}, 1.25, {"a novel": 1.25})
    run.log_whole(2, 1.5, {"a novel": 1.5})
    run.write_checkpoint({"model": model.flat.arrays()}, 2)
    return model


def test_a_run_is_described(tmp_path):
    model = trained(tmp_path / "run", {"path": "/home/me/secret/novel.txt", "sha256": "12ab"})
    assert status(example("export").main, tmp_path / "run", tmp_path / "model") == 0
    card = card_of(tmp_path / "model")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "# tiny on a novel\n\nA language model of " + f"{model.flat.data.size:,} parameters" in card
    for line in (
        "| architecture | Qwen3ForCausalLM |",
        "| layers × channels | 2 × 8 |",
        "| vocabulary | 7 tokens (char) |",
        "| weights | float32 |",
        "- began with the weights of base",
        "- data: novel.txt",
        "- sha256 of the data: `12ab`",
        "- 2 steps of 12 sequences, seed 5",
        "- validation loss of these weights: 1.2500 nats per token",
        "- the same on the whole validation split: 1.5000",
        "- for comparison, uniform: 1.9459",
    ):
        assert line in card.splitlines()
    assert "license: unknown" in card
    assert "The licence is unknown" in card
    assert "/home" not in card


def test_a_mixture_is_described_by_its_sources(tmp_path):
    data = {"prepared": "/home/me/data", "seal": "34cd", "weights": {"books": "2/3", "sums": "1/3"}}
    trained(tmp_path / "run", data)
    assert status(example("export").main, tmp_path / "run", tmp_path / "model") == 0
    assert "- data: books (2/3 of the tokens), sums (1/3 of the tokens)\n- seal of the data: `34cd`\n" in card_of(
        tmp_path / "model"
    )


def test_a_damaged_log_costs_no_model(tmp_path):
    trained(tmp_path / "run", {"path": None})
    (tmp_path / "run" / "log.jsonl").write_text("{\n")
    assert status(example("export").main, tmp_path / "run", tmp_path / "model") == 0
    assert "- data: tiny Shakespeare\n" in card_of(tmp_path / "model")


@pytest.mark.parametrize(("source", "said"), [(None, "A language model"), ("openai:124M", "openai:124M")])
def test_what_is_not_known_is_not_invented(source, said, tmp_path):
    export(shaken(tiny("gpt2")), SEVEN, tmp_path / "model", source=source)
    card = card_of(tmp_path / "model")
    assert f"# {said}\n" in card
    assert f"exported from a model whose training is unknown to this program: {said}\n" in card
    assert "steps of" not in card
    assert "trust" not in card


@pytest.mark.parametrize("kind", ["plain", "bounded", "chat"])
def test_its_lines_run_in_transformers(kind, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    tokenizer, files = SEVEN, None
    if kind == "chat":
        chat = Chat(tokenizer_named("bpe"))
        tokenizer, files = chat.tokenizer, chat_files(chat)
    preset = "modern" if kind == "bounded" else "gpt2"
    size = chat.vocab_size if kind == "chat" else 7
    export(shaken(tiny(preset, vocab_size=size, block_size=32), dtype=np.float32), tokenizer, tmp_path / "model", files)
    card = card_of(tmp_path / "model")
    assert ("trust_remote_code=True" in card, "tinygrad-lm chat" in card) == (kind == "bounded", kind == "chat")
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path / "model")
    torch.manual_seed(3)  # the text is drawn: of others some are blank lines alone
    exec(lines.replace("max_new_tokens=100", "max_new_tokens=3, pad_token_id=0"), {})
    assert capsys.readouterr().out.strip("\n")
