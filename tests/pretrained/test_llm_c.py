"""Ten steps from GPT-2's published weights: the losses that llm.c publishes (test_gpt2.c).

They were computed by llm.c's train_gpt2.py: four rows of 64 tokens from the beginning of tiny Shakespeare, with an
<|endoftext|> before each speech; Adam with lr 1e-4 and no weight decay. (The C program decays all weights by
0.01 · 1e-4 a step, which is far below its tolerance of 1e-2.)
"""

import os
from pathlib import Path

import numpy as np
import pytest
from pretrained.small_models import SEVEN
from small_gpt import shaken, tiny

from tinygrad_lm.data.corpus import cache_folder
from tinygrad_lm.data.tokenizers.tokenizer import GPT2Tokenizer
from tinygrad_lm.ops import cross_entropy
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.load import load_pretrained

LOSSES = [5.270007133483887, 4.059706687927246, 3.3751230239868164, 2.8007826805114746, 2.315382242202759]
LOSSES += [1.8490285873413086, 1.3946564197540283, 0.9991465210914612, 0.6240804195404053, 0.37651097774505615]
ADAM = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}


def batch(tokens, B=4, T=64):
    """Inputs and targets, (B, T) each: the first B T tokens, and those that follow them."""
    return tokens[: B * T].reshape(B, T), tokens[1 : B * T + 1].reshape(B, T)


def speeches(text, encode, eot, n):
    """The first n tokens of a text, with the token `eot` before each speech."""
    tokens = []
    for part in text.replace("\n\n", "\n\n\0").split("\0"):
        tokens += [eot, *encode(part)]
        if len(tokens) >= n:
            return np.array(tokens[:n])
    raise AssertionError("the text is too short")


def ten_losses(model, x, y):
    adam = AdamW(model.parameters(), **ADAM)
    for _ in range(10):
        model.flat.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        yield loss.item()


def published():
    """The folder of GPT-2's 124M weights, or a skip that says how to have it."""
    if folder := os.environ.get("TINYGRAD_LM_GPT2"):
        return folder
    if (folder := cache_folder() / "gpt-2" / "124M").is_dir():
        return folder
    huggingface_hub = pytest.importorskip("huggingface_hub")
    for name in ("openai-community/gpt2", "gpt2"):
        if isinstance(file := huggingface_hub.try_to_load_from_cache(name, "model.safetensors"), str):
            return Path(file).parent
    pytest.skip(
        "GPT-2's weights are not here: load_pretrained('gpt2') fetches them, or TINYGRAD_LM_GPT2 names their folder"
    )


def test_the_losses_of_llm_c(shakespeare):
    model, tokenizer = load_pretrained(published())
    tokens = speeches(shakespeare.read_text(), tokenizer.encode, tokenizer.eot, 4 * 64 + 1)
    losses = list(ten_losses(model, *batch(tokens)))
    assert losses == pytest.approx(LOSSES, abs=1e-3)


def test_the_tokens_are_those_of_llm_c(shakespeare):
    """As tiktoken cuts the text with its markers, which is how llm.c makes them."""
    if "TIKTOKEN_CACHE_DIR" not in os.environ:
        pytest.skip("TIKTOKEN_CACHE_DIR names no folder with GPT-2's vocabulary")
    tokenizer, text = GPT2Tokenizer(), shakespeare.read_text()
    marked = "<|endoftext|>" + text.replace("\n\n", "\n\n<|endoftext|>")
    expected = tokenizer._bpe.encode(marked, allowed_special="all")
    assert len(expected) == 32_768 + 305_260  # as its prepro_tinyshakespeare.py tells
    n = 4 * 64 + 1
    assert speeches(text, tokenizer.encode, tokenizer.eot, n).tolist() == expected[:n]
    x, y = batch(np.array(expected))
    assert x[0, :5].tolist() == [50256, 5962, 22307, 25, 198]
    assert y[3, -1] == expected[256]


@pytest.mark.slow
def test_the_same_ten_steps_in_pytorch(tmp_path):
    """The machinery above, from a small model with random weights: their losses and ours."""
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    export(shaken(tiny("gpt2", n_embd=16, block_size=64), 5, np.float32), SEVEN, tmp_path / "model")
    x, y = batch(np.random.default_rng(5).integers(0, 3, 257))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "model").eval()
    adam = torch.optim.AdamW(theirs.parameters(), **ADAM | {"lr": 1e-2})
    expected = []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(
            theirs(torch.tensor(x)).logits.flatten(0, 1), torch.tensor(y).flatten()
        )
        expected.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ADAM, "lr", 1e-2)
        found = list(ten_losses(load_pretrained(tmp_path / "model")[0], x, y))
    assert found == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < 0.8 * expected[0]
