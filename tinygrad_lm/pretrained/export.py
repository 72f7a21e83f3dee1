"""Our weights out, in the layout in which others can load them: Hugging Face's.

What a model of ours has no name for there is often the same as something that has one: no bias is a bias of zeros, no
gain is a gain of ones, max(z, 0)² is max(z, 0) · z and so a gated MLP whose gate is its other projection, and an
adapter is a part of its weight. The logits' bound softcap · tanh(z/softcap) has no counterpart; for it a small Python
file goes along (modeling_tinygrad_lm.py.txt), which transformers runs where trust_remote_code=True allows it to.
Without it the same weights load as Qwen3 and put the tokens in the same order, for tanh is increasing.
"""

import errno
import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from tinygrad_lm.adapt.inherit import merge
from tinygrad_lm.backend import to_device
from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.files import sync, write
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained import gpt2, llama
from tinygrad_lm.pretrained.export_tokenizer import tokenizer_files

MODELING = "modeling_tinygrad_lm.py"


def export(model, tokenizer, folder):
    """Write a new folder that transformers loads: config.json, model.safetensors, generation_config.json, the
    tokenizer's files.

    GPT-2's family becomes GPT2LMHeadModel, Llama's LlamaForCausalLM, and with normalised heads, as in our presets
    `modern`, Qwen3ForCausalLM. It is written under another name and then renamed. Raises ConfigError for a model that
    none of them is, or for a folder that is there, and CheckpointError where it cannot be written.
    """
    import safetensors.numpy

    model = merge(model)
    config = expressed(model.config)
    family = gpt2 if config.norm == "layer" else llama
    description = family.write_config(config) | {
        "dtype": model.parameters.master.dtype.name,
        "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.eot,
    }
    texts = tokenizer_files(tokenizer)
    if config.softcap:
        auto_map = {"AutoModelForCausalLM": "modeling_tinygrad_lm.TinygradLMForCausalLM"}
        description |= {"softcap": config.softcap, "auto_map": auto_map}
        texts[MODELING] = files("tinygrad_lm.pretrained").joinpath(f"{MODELING}.txt").read_bytes()
    generation = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eot}
    texts |= {
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
        safetensors.numpy.save_file(tensors(model, config), temporary / "model.safetensors", {"format": "pt"})
        sync(temporary)
        temporary.rename(folder)
        sync(folder.parent)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"export: cannot write {folder}: {error}; {way_out(error)}") from error


def way_out(error):
    """What to do about an error in writing. The library tells the number of the system's error in its text alone."""
    if getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC})" in str(error):
        return "make room, or give a folder on another disk"
    return "give a folder that can be written to"


def expressed(config):
    """The configuration of the same function that has a name in Hugging Face's layout."""
    odd = {}
    if config.norm == "layer":
        family = "GPT-2"
        odd |= {"position": config.position != "learned", "qk_norm": config.qk_norm, "gated": config.gated}
        odd |= {"n_kv_head": config.kv_heads != config.n_head, "softcap": config.softcap}
        odd |= {"n_head_embd": config.head_size * config.n_head != config.n_embd}
        same = replace(config, bias=True, gain=False)
    else:
        family = "Qwen3" if config.qk_norm else "Llama"
        squared = config.activation == "relu_squared" and not config.gated
        odd |= {"position": config.position != "rotary", "gated": not (config.gated or squared)}
        odd |= {"bias": config.bias and config.qk_norm, "softcap": config.softcap and not config.qk_norm}
        odd |= {"n_embd": not config.qk_norm and config.n_embd % config.n_head}
        same = replace(config, gain=True, gated=True, activation="relu" if squared else config.activation)
    if names := [f"{name} = {getattr(config, name)!r}" for name, wrong in odd.items() if wrong]:
        raise ConfigError(
            f"export: with norm = {config.norm!r}, the nearest layout is {family}'s, which has no {', '.join(names)}\n"
            f"  hint : the folder of the run is complete without it, and `load` reads it"
        )
    return same


def tensors(model, config):
    """{name: array} in the layout of the configuration. Its parameters' shapes come from a model that stays zero."""
    family, found = gpt2 if config.norm == "layer" else llama, {}
    masters = model.parameters.masters()
    for place in family.places(GPT(config, None)):
        stored = found.setdefault(place.tensor, np.empty(place.shape, model.parameters.master.dtype))
        place.view(stored)[...] = value(masters, place.parameter)
    return found


def value(masters, name):
    """What a parameter of the configuration expressed is in ours."""
    if ".c_gate." in name and name not in masters:  # max(z, 0)² = max(z, 0) · z
        name = name.replace(".c_gate.", ".c_fc.")
    if name not in masters:
        return 0.0 if name.endswith(".bias") else 1.0  # a weight that we have not is a norm's gain
    return to_device(masters[name], "cpu")
