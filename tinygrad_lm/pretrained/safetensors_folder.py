"""Read the safetensors files of a folder, one tensor at a time.

A file is the length of a header (8 bytes), the header (JSON: each tensor's name, dtype, shape and offsets), and the
bytes of the tensors. The library checks the header; the bytes are read here, because NumPy has no bfloat16.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.fields import read_json
from tinygrad_lm.pretrained.tensor_bundle import float32_of

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
MOST_AXES = 64  # of a NumPy array
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


class SafetensorsFolder(Mapping):
    """{name: array} of model.safetensors, or of the files that model.safetensors.index.json lists.

    Where a folder has both, model.safetensors is taken, as transformers does: saving into a folder leaves an old index
    behind; where the index's files are all there, a note is printed. bfloat16 becomes float32. The constructor reads
    and checks the headers. Raises CheckpointError for files that are missing or damaged.
    """

    def __init__(self, folder):
        folder = Path(folder)
        if (folder / INDEX).is_file() and not (folder / FILE).is_file():
            self._entries = self._listed(folder)
        else:
            self._entries = read_header(folder / FILE)
            if (folder / INDEX).is_file() and all((folder / file).is_file() for file in listed(folder).values()):
                print(f"note: {folder} holds {FILE}, which is read, and the files of {INDEX}", file=sys.stderr)

    def _listed(self, folder):
        files = listed(folder)
        headers = {file: read_header(folder / file) for file in sorted(set(files.values()))}
        if lost := [f"{name} of {file}" for name, file in files.items() if name not in headers[file]]:
            raise CheckpointError(f"{folder / INDEX} lists tensors that the files lack: {', '.join(lost[:10])}")
        return {name: headers[file][name] for name, file in files.items()}

    @property
    def shapes(self):
        """{name: (shape, dtype)}, without reading arrays; a dtype that NumPy lacks keeps the file's name."""
        dtypes = {name: np.dtype(stored) for name, stored in DTYPES.items()} | {"BF16": np.dtype("f4")}
        return {name: (shape, dtypes.get(dtype, dtype)) for name, (_, dtype, shape, _, _) in self._entries.items()}

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __getitem__(self, name):
        path, dtype, shape, offset, size = self._entries[name]
        if dtype not in DTYPES:
            raise CheckpointError(f"{path}: {name} is stored as {dtype}, expected one of {', '.join(DTYPES)}")
        try:
            stored = np.fromfile(path, np.uint8, size, offset=offset)
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        if len(stored) != size:
            raise CheckpointError(f"{path}: expected {size} bytes of {name}, found {len(stored)}; download it again")
        array = stored.view(DTYPES[dtype])
        return (float32_of(array) if dtype == "BF16" else array).reshape(shape)


def listed(folder):
    """{tensor: file} of a folder's index."""
    files = read_json(folder / INDEX).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise CheckpointError(f"{folder / INDEX} is damaged: expected weight_map, with the file of each tensor")
    for file in files.values():
        if Path(file).name != file:
            raise CheckpointError(f"{folder / INDEX}: expected files of this folder, found {file!r}")
    return files


def read_header(path):
    """{name: (path, dtype, shape, offset in the file, size in bytes)}"""
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy"):  # checks the header, and the file's length against it
            pass
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        there = sorted(os.listdir(path.parent)) if path.parent.is_dir() else []
        raise CheckpointError(
            f"{path}: {error}\n  there : {', '.join(there[:20]) or 'nothing'}\n  hint  : download the whole file again"
        ) from error
    header.pop("__metadata__", None)
    entries = {}
    for name, tensor in header.items():
        if len(tensor["shape"]) > MOST_AXES:
            raise CheckpointError(
                f"{path}: {name} has {len(tensor['shape'])} axes; NumPy's arrays have at most {MOST_AXES}"
            )
        start, stop = tensor["data_offsets"]
        entries[name] = (path, tensor["dtype"], tuple(tensor["shape"]), 8 + length + start, stop - start)
    return entries
