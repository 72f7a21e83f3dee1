"""Every field of a config.json that transformers reads, changed one by one: equal logits, or refused by us.

The fields are those that a configuration writes, and those that the reference code of the family mentions: its model,
the masks, the rotary positions. A field that we ignore and transformers reads would load in silence as another model.
"""

import inspect
import json
import re
import warnings
from collections import Counter

import numpy as np
import pytest
from slow import slow_but

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
transformers = pytest.importorskip("transformers", reason="transformers, the oracle of these tests, is not installed")

from pretrained.published import random_weights  # noqa: E402
from transformers import masking_utils, modeling_rope_utils  # noqa: E402
from transformers.models.gpt2 import modeling_gpt2  # noqa: E402
from transformers.models.llama import modeling_llama  # noqa: E402
from transformers.models.qwen3 import modeling_qwen3  # noqa: E402

from tinygrad_lm.errors import TinygradError  # noqa: E402
from tinygrad_lm.pretrained.load import load_hugging_face  # noqa: E402

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "vocab_size": 11}
SIZES |= {"num_key_value_heads": 2, "intermediate_size": 12, "max_position_embeddings": 16, "head_dim": 4}
ROPE = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0}
ROPE |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
FAMILIES = {
    "gpt2": (modeling_gpt2, {"n_layer": 2, "n_head": 4, "n_embd": 16, "vocab_size": 11, "n_positions": 16}),
    "llama": (modeling_llama, SIZES | {"rope_parameters": ROPE, "attention_bias": True, "mlp_bias": True}),
    "qwen3": (modeling_qwen3, SIZES | {"rope_parameters": ROPE}),
}
MENTIONED = re.compile(r"""\bconfig\.([a-z]\w*)\b(?!\()|getattr\((?:self\.)?config, ["']([a-z]\w*)["']""")
OF_NO_MODEL = {"architectures", "dtype", "id2label", "label2id", "model_type", "transformers_version"}
TEXTS = (
    "relu",
    "gelu",
    "gelu_new",
    "silu",
    "swish",
    "relu2",
    "gelu_pytorch_tanh",
    "tanh",
    "gelu_fast",
    "sliding_attention",
)
IDS = torch.tensor([[1, 5, 2, 6, 0, 9, 3, 3, 10, 7, 4, 8]])
EXPECTED = ("equal", "refused by us", "refused by transformers alone")
ENOUGH = 300  # configurations of a family; with fewer the sweep has lost fields


def fields(module, config):
    """Names of what the family's code reads, and of what the configuration writes."""
    found = set(config)
    for source in map(inspect.getsource, (module, masking_utils, modeling_rope_utils)):
        found |= {name for names in MENTIONED.findall(source) for name in names if name}
    return sorted(found - OF_NO_MODEL)


def others(value):
    """Other values of a field, some of which make no sense."""
    yield from (None, True, False, 1, 2, 3, 8)
    if isinstance(value, dict):
        yield from ({**value, name: other} for name, old in value.items() for other in others(old))
        yield from ({n: old for n, old in value.items() if n != name} for name in value)
        yield from ({**value, "rope_type": kind} for kind in ("default", "linear", "dynamic", "yarn", "longrope"))
        yield {**value, "partial_rotary_factor": 0.5}
        yield {**value, "low_freq_factor": 5.0}
    elif isinstance(value, list):
        yield from ([], value[:1], ["sliding_attention"] * len(value))
    elif isinstance(value, str):
        yield from TEXTS
    elif isinstance(value, (int, float)) and value is not True and value is not False:
        yield from (value * 2, value / 2, 0.1, -1)


def theirs(config, state):
    """Logits of transformers' model of a config.json; None where it refuses it, or its weights do not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind = transformers.CONFIG_MAPPING[config["model_type"]]
            model = transformers.AutoModelForCausalLM.from_config(kind.from_dict(dict(config)), dtype=torch.float32)
            model.load_state_dict(state)
            with torch.no_grad():
                return model.eval()(IDS).logits.numpy()
        except Exception:  # whatever a wrong configuration may lead to
            return None


def outcome(folder, config, state):
    """How the two compare on one configuration."""
    try:
        found = load_hugging_face(folder, config, "cpu", np.float32)(IDS.numpy()).data
    except TinygradError:
        return "refused by us"
    expected = theirs(config, state)
    if expected is None:
        return "refused by transformers alone"
    scale = max(1.0, abs(expected).max())
    return "equal" if abs(found - expected).max() < 1e-4 * scale else f"differs by {abs(found - expected).max():.2g}"


@pytest.mark.parametrize("family", slow_but(FAMILIES, "gpt2"))
def test_every_field(family, tmp_path):
    module, sizes = FAMILIES[family]
    config = transformers.CONFIG_MAPPING[family](**sizes, bos_token_id=0, eos_token_id=0)
    model = random_weights(transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32), 3)
    model.save_pretrained(tmp_path)
    written, state = json.loads((tmp_path / "config.json").read_text()), model.state_dict()
    assert outcome(tmp_path, written, state) == "equal"
    counts, differing = Counter(), []
    for name in fields(module, written):
        for value in others(written.get(name)):
            if json.dumps(value) == json.dumps(written.get(name, "absent")):
                continue
            found = outcome(tmp_path, written | {name: value}, state)
            counts[found] += 1
            if found not in EXPECTED:
                differing.append(f"{name}: {value!r} {found}")
    print(f"{family}: {sum(counts.values())} configurations, {dict(counts)}")
    assert differing == []
    assert counts["equal"] > 40
    assert counts["refused by us"] > 40
    assert sum(counts.values()) >= ENOUGH
