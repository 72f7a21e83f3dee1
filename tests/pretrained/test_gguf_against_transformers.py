"""GGUF files beside transformers, which reads them by its own code: the same logits, the same ids."""

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="the library gguf is not installed")
torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
transformers = pytest.importorskip("transformers", reason="transformers, the oracle of these tests, is not installed")
from pretrained.gguf_models import FAMILIES, publish, small  # noqa: E402

from tinygrad_lm.posttrain.chat.load import find_chat  # noqa: E402
from tinygrad_lm.pretrained.load import load_pretrained  # noqa: E402
from tinygrad_lm.testing.checks import agree  # noqa: E402

transformers.utils.logging.disable_progress_bar()
TEXT = "the This 12 is 3.14 the, 'LL we'll\r\n\n  été 12345 1200 <think> \t\u2003the   x"


@pytest.mark.parametrize("stored", ["F32", "Q4_1"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_logits(tmp_path, kind, stored):
    sizes = {"block_size": 1024, "n_hidden": 128} if kind == "gpt2" else {}  # it does not read these two of a GPT-2
    publish(tmp_path / "x.gguf", small(kind, **sizes), kind, stored)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf", dtype=torch.float32)
    x = np.random.default_rng(0).integers(0, 200, (2, 9))
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).logits.numpy()
    agree(load_pretrained(tmp_path / "x.gguf")[0](x).data, expected, "logits", 1e-5)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_ids(tmp_path, pre):
    """transformers does not split digits for smollm, whose vocabulary has none that are merged."""
    changes = {"tokenizer.ggml.pre": pre}
    if pre == "smollm":
        changes["tokenizer.ggml.merges"] = ["t h", "th e", "Ġ the"]
    publish(tmp_path / "x.gguf", small("llama"), "llama", metadata=changes)
    _, tokenizer = load_pretrained(tmp_path / "x.gguf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="x.gguf")
    assert tokenizer.encode(TEXT).tolist() == theirs(TEXT, add_special_tokens=False).input_ids
    talk = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "is"}, {"role": "user", "content": "x"}]
    expected = theirs.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert find_chat(tmp_path / "x.gguf", tokenizer).prompt(talk).tolist() == expected
