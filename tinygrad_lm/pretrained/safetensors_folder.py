"""The weights of a folder in safetensors files, one tensor at a time.

A file is the length of a header (8 bytes), the header (JSON: each tensor's name, element type, shape, place), and the
bytes of the tensors. The library checks it; the bytes are read here, because NumPy has no bfloat16.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.fields import read_json

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


class SafetensorsFolder(Mapping):
    """{name: array} of model.safetensors, or of the files that model.safetensors.index.json lists.

    A bfloat16 becomes a float32. Making it reads and checks the headers. Raises CheckpointError for files that are
    missing or damaged.
    """

    def __init__(self, folder):
        folder = Path(folder)
        if (folder / INDEX).is_file():
            self._entries = self._listed(folder)
        else:
            self._entries = read_header(folder / FILE)

    def _listed(self, folder):
        files = read_json(folder / INDEX).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
            raise CheckpointError(f"{folder / INDEX} is damaged: expected weight_map, the file of each tensor")
        for file in files.values():
            if Path(file).name != file:
                raise CheckpointError(f"{folder / INDEX}: expected files of this folder, found {file!r}")
        headers = {file: read_header(folder / file) for file in sorted(set(files.values()))}
        if lost := [f"{name} of {file}" for name, file in files.items() if name not in headers[file]]:
            raise CheckpointError(f"{folder / INDEX} lists tensors that are not there: {', '.join(lost[:10])}")
        return {name: headers[file][name] for name, file in files.items()}

    @property
    def shapes(self):
        """{name: (shape, dtype)}, and no array is read; the dtype of what NumPy has no name for is the file's own."""
        dtypes = {name: np.dtype(stored) for name, stored in DTYPES.items()} | {"BF16": np.dtype("f4")}
        return {name: (shape, dtypes.get(dtype, dtype)) for name, (_, dtype, shape, _, _) in self._entries.items()}

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __getitem__(self, name):
        path, dtype, shape, offset, size = self._entries[name]
        try:
            stored = np.fromfile(path, np.uint8, size, offset=offset)
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        if len(stored) != size:
            raise CheckpointError(f"{path}: expected {size} bytes of {name}, found {len(stored)}; fetch it again")
        array = stored.view(DTYPES[dtype])
        if dtype == "BF16":  # the upper half of a float32
            array = array.astype("<u4")
            array <<= 16
            array = array.view("<f4")
        return array.reshape(shape)


def read_header(path):
    """{name: (path, element type, shape, offset in the file, size in bytes)}"""
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
            f"{path}: {error}\n  there : {', '.join(there[:20]) or 'nothing'}\n  hint  : fetch it again, whole"
        ) from error
    header.pop("__metadata__", None)
    entries = {}
    for name, tensor in header.items():
        start, stop = tensor["data_offsets"]
        entries[name] = (path, tensor["dtype"], tuple(tensor["shape"]), 8 + length + start, stop - start)
    return entries
