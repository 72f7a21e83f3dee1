"""A published chat model, there and back: fine-tuned, exported, and loaded by transformers with the same template, the
same ids and the same greedy answer. And a chat model of ours, whose built-in template becomes a published one."""

import json
from itertools import islice

import pytest
from chat_templates import CHATML, LLAMA3
from slow import slow_but
from small_chats import json_tokenizer, make_base, tokenizer_named, turns
from small_run import example, status, teach

from tinygrad_lm.data.tokenizers.bpe import ALPHABET
from tinygrad_lm.data.tokenizers.bpe_tokenizer import BPETokenizer
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import GPT2Tokenizer, byte_letters
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.posttrain.chat.chat import Chat, name_of
from tinygrad_lm.posttrain.chat.export_chat import chat_files
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.run import ChatRun
from tinygrad_lm.testing.checks import agree

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("jinja2")

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 192, "dtype": "float32"}
ENDS = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>"]
SPECIAL = [*ENDS, "<|begin_of_text|>", "<|im_start|>", "<|start_header_id|>", "<|end_header_id|>"]
FAMILIES = {"qwen3": (transformers.Qwen3Config, CHATML), "llama": (transformers.LlamaConfig, LLAMA3)}
ASKED = turns("cat", "CAT", "cow", system="Say it louder.")
LOUDER = [
    turns(word, word.upper(), system="Say it louder.") for word in ("cat", "cow", "hen", "ant", "bee", "dog", "emu")
]


def publish(folder, family):
    """A folder as models are published: random weights, a tokenizer, a template, several ids that end a text."""
    folder.mkdir()
    kind, template = FAMILIES[family]
    settings = {"chat_template": template, "bos_token": "<|begin_of_text|>", "eos_token": "<|endoftext|>"}
    tokenizer = json_tokenizer(folder, SPECIAL, settings=settings)
    ends = [SPECIAL.index(text) for text in ENDS[:2]]
    torch.manual_seed(1)
    config = kind(vocab_size=tokenizer.vocab_size + 3, **SIZES, bos_token_id=3, eos_token_id=ends)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    generation = {"bos_token_id": 3, "eos_token_id": ends, "temperature": 0.7, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def loaded(folder):
    """transformers' model and tokenizer of a folder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval(), tokenizer


def answers(folder, messages):
    """The greedy answer by transformers, its ids, and the ids of the prompt."""
    model, tokenizer = loaded(folder)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12, pad_token_id=0)[0].tolist()
    return prompt, out[len(prompt) :]


def ours(folder, messages):
    """The same by this package, and whether the answer came to its end."""
    model, chat = load_chat(folder)
    prompt, drawn = chat.prompt(messages).tolist(), []
    for token in islice(generate(model, prompt, 12, temperature=0), 12):
        drawn.append(token)
        if token in chat.ends:
            break
    return prompt, drawn


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back(family, tmp_path, capsys):
    folder = publish(tmp_path / "published", family)
    template = (folder / "tokenizer_config.json").read_text()
    lines = [json.dumps({"messages": messages}) for messages in LOUDER * 3]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    options = ["--data", tmp_path / "data.jsonl", "--out", tmp_path / "run", "--steps", 40, "--lr", 0.01]
    assert teach(folder, *options, "--batch-size", 8, "--accumulate", 1, "--eval-every", 40) == 0
    assert status(example("export").main, tmp_path / "run", tmp_path / "exported") == 0
    assert (tmp_path / "exported" / "tokenizer_config.json").read_text() == template
    generation = json.loads((tmp_path / "exported" / "generation_config.json").read_text())
    ends = {"qwen3": [0, 1], "llama": [0, 1, 2]}[family]
    assert (generation["temperature"], generation["eos_token_id"]) == (0.7, ends)

    theirs = answers(tmp_path / "exported", ASKED)
    assert theirs == ours(tmp_path / "run", ASKED) == ours(tmp_path / "exported", ASKED)
    assert theirs[1][-1] in ends  # it has learnt to end
    assert theirs != answers(folder, ASKED)


def like_gpt2(folder):
    """A tokenizer as GPT-2's, of bytes alone."""
    tokens = [*byte_letters().values(), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return GPT2Tokenizer(folder)


@pytest.mark.parametrize("name", slow_but(["char", "byte", "bpe", "gpt2", "json"], "bpe"))
def test_the_built_in_template_is_published(name, tmp_path):
    """transformers renders the same ids, and generates the same answer with the same logits."""
    tokenizer = like_gpt2(tmp_path) if name == "gpt2" else tokenizer_named(name)
    base = make_base(tmp_path / "base", tokenizer, n_embd=8)
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({"messages": messages}) for messages in LOUDER * 3))
    options = ["--data", tmp_path / "data.jsonl", "--out", tmp_path / "run", "--steps", 2, "--eval-every", 2]
    assert teach(tmp_path / "base", *options, "--batch-size", 2, "--accumulate", 1) == 0
    assert status(example("export").main, tmp_path / "run", tmp_path / "exported") == 0
    chat = ChatRun(tmp_path / "run").chat
    assert type(chat) is Chat
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    for messages in (LOUDER[0], turns("Hi", " a\n", "\n", "b ")):
        assert theirs.apply_chat_template(messages, return_dict=False) == chat.render(messages)[0].tolist()
        prompt = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert prompt == chat.prompt(messages[:-1]).tolist()
    assert load_chat(tmp_path / "exported")[1].ends == chat.ends
    assert answers(tmp_path / "exported", ASKED[:2])[1] == ours(tmp_path / "run", ASKED[:2])[1]
    model, _ = loaded(tmp_path / "exported")
    x = chat.render(LOUDER[0])[0][None]
    with torch.no_grad():
        agree(load_chat(tmp_path / "run")[0](x).data, model(torch.tensor(x)).logits.numpy(), "logits", 1e-4)
    assert base.config.vocab_size + 5 == chat.vocab_size


def test_a_tokenizer_with_the_same_special_texts(tmp_path):
    tokenizer = BPETokenizer([*ALPHABET], [name_of("end"), name_of("user")])
    with pytest.raises(ConfigError, match=r"the tokenizer has <\|end\|>, <\|user\|> itself, so the chat's cannot be"):
        chat_files(Chat(tokenizer))


def test_a_model_without_chat_is_exported_as_it_was(tmp_path):
    make_base(tmp_path / "base", tokenizer_named("byte"))
    assert status(example("export").main, tmp_path / "base", tmp_path / "exported") == 0
    assert not (tmp_path / "exported" / "chat_template.jinja").exists()
    assert (tmp_path / "exported" / "tokenizer.json").exists()
