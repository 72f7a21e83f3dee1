"""Export a model in Hugging Face's layout, which transformers loads.

Where the layout lacks a part of our model, an equal part often exists: no bias is a bias of zeros, no gain is a gain of
ones, max(z, 0)² = max(z, 0) · z is a gated MLP whose gate equals its other projection, and an adapter is added to its
weight. The bound on the logits, softcap · tanh(z / softcap), has no counterpart; for it the export includes a small
Python file (modeling_tinygrad_lm.py.txt), which transformers runs if trust_remote_code=True. Without it the same
weights load as Qwen3 and rank the tokens in the same order, because tanh is increasing.
"""

import copy
import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from tinygrad_lm.adapt.lora import merge
from tinygrad_lm.data.tokenizers.json_tokenizer import TEMPLATE
from tinygrad_lm.data.tokenizers.vocabulary import Tokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.files import sync, write
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained import gpt2, llama
from tinygrad_lm.pretrained.export_tokenizer import tokenizer_files
from tinygrad_lm.pretrained.model_card import model_card

MODELING = "modeling_tinygrad_lm.py"


def export(
    model: GPT, tokenizer: Tokenizer, folder: str | Path, files: Mapping[str, str | bytes] | None = None,
    source: str | None = None,
) -> None:  # fmt: skip
    """Write a new folder: config.json, model.safetensors, generation_config.json, the tokenizer's files, and README.md.

    Layer norms make a GPT2LMHeadModel, RMS norms a LlamaForCausalLM or, with normalised queries and keys as in our
    presets `modern`, a Qwen3ForCausalLM. The folder is written under a temporary name and then renamed. Raises
    ConfigError for a model that none of them can express and for a folder that exists, CheckpointError for a folder
    that cannot be written.

    files: {file name: content} in place of the tokenizer's; source: where the model came from, for the model card
    """
    import safetensors.numpy

    if any(".lora_" in name for name in model.flat):
        model = merge(copy.deepcopy(model))
    config = equal_config(model.config)
    family = gpt2 if config.norm == "layer" else llama
    texts = tokenizer_files(tokenizer) if files is None else dict(files)
    ends: dict = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eot}
    if len(tokenizer.ends) > 1:
        ends["eos_token_id"] = sorted(tokenizer.ends, key=lambda end: (end != tokenizer.eot, end))
    generation = ends | json.loads(texts.get("generation_config.json", "{}"))
    ends = {name: generation[name] for name in ends}
    description = family.write_config(config) | {"dtype": model.flat.data.dtype.name} | ends
    if config.softcap:
        auto_map = {"AutoModelForCausalLM": "modeling_tinygrad_lm.TinygradLMForCausalLM"}
        description |= {"softcap": config.softcap, "auto_map": auto_map}
        texts[MODELING] = resources.files("tinygrad_lm.pretrained").joinpath(f"{MODELING}.txt").read_bytes()
    card = model_card(model, tokenizer, description, TEMPLATE in texts, source)
    texts |= {
        "README.md": card.encode(),
        "config.json": json.dumps(description, indent=2).encode(),
        "generation_config.json": json.dumps(generation, indent=2).encode(),
    }

    folder = Path(folder).absolute()
    temporary = folder.with_name(f".{folder.name}.tmp")
    if folder.exists():
        raise ConfigError(f"export: {folder} exists; give the name of a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in texts.items():
            write(temporary / name, content)
        safetensors.numpy.save_file(stored_tensors(model, config), temporary / "model.safetensors", {"format": "pt"})
        sync(temporary)
        temporary.rename(folder)
        sync(folder.parent)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"export: cannot write {folder}: {error}; {hint_for(error)}") from error


def hint_for(error):
    """What to do about an error in writing. SafetensorError has the system's error number only in its text."""
    if getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC})" in str(error):
        return "make room, or give a folder on another disk"
    return "give a folder that can be written to"


def equal_config(config):
    """The configuration of the same function that Hugging Face's layout can express. Raises ConfigError."""
    unsupported = {}
    if config.norm == "layer":
        family = "GPT-2"
        unsupported |= {"position": config.position != "learned", "qk_norm": config.qk_norm, "gated": config.gated}
        unsupported |= {"n_kv_head": config.kv_heads != config.n_head, "softcap": config.softcap}
        unsupported |= {"n_head_embd": config.head_size * config.n_head != config.n_embd}
        same = replace(config, bias=True, gain=False)
    else:
        family = "Qwen3" if config.qk_norm else "Llama"
        squared = config.activation == "relu_squared" and not config.gated
        unsupported |= {"position": config.position != "rotary", "gated": not (config.gated or squared)}
        unsupported |= {"bias": config.bias and config.qk_norm, "softcap": config.softcap and not config.qk_norm}
        unsupported |= {"n_embd": not config.qk_norm and config.n_embd % config.n_head}
        same = replace(config, gain=True, gated=True, activation="relu" if squared else config.activation)
    if names := [f"{name} = {getattr(config, name)!r}" for name, wrong in unsupported.items() if wrong]:
        raise ConfigError(
            f"export: with norm = {config.norm!r}, the nearest layout is {family}'s, which lacks {', '.join(names)}\n"
            f"  hint : load_pretrained reads the folder of the run"
        )
    return same


def stored_tensors(model, config):
    """{name: array} in the layout of the configuration; the shapes come from a model without weights."""
    family, found = gpt2 if config.norm == "layer" else llama, {}
    weights = model.flat.arrays()
    for place in family.places(GPT(config, None)):
        stored = found.setdefault(place.tensor, np.empty(place.shape, model.flat.data.dtype))
        place.view(stored)[...] = parameter_value(weights, place.parameter)
    return found


def parameter_value(weights, name):
    """The value of a parameter of equal_config's model, from the weights of ours."""
    if ".c_gate." in name and name not in weights:  # max(z, 0)² = max(z, 0) · z
        name = name.replace(".c_gate.", ".c_fc.")
    if name not in weights:
        return 0.0 if name.endswith(".bias") else 1.0  # a missing weight is a norm's gain
    return weights[name]
