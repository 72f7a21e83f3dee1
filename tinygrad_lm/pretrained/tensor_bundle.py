"""Read TensorFlow's checkpoints ("tensor bundles", V2) without TensorFlow: the format of OpenAI's release of GPT-2.

`model.ckpt.index` lists the tensors; `model.ckpt.data-00000-of-00001` and so on hold their bytes in sequence.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.bundle_index import STORED, parse_index
from tinygrad_lm.pretrained.table import masked_crc32c, within

MAX_INDEX = 2**22  # bytes; a hundred times the index of the largest GPT-2


class TensorBundle(Mapping):
    """{name: array} of the checkpoint at `prefix`, such as "124M/model.ckpt". bfloat16 becomes float32.

    The constructor reads and verifies the index; bundle[name] reads and verifies that one tensor.
    Raises CheckpointError for files that are missing, damaged or of an unsupported kind.
    """

    def __init__(self, prefix):
        self.prefix = prefix
        masked_crc32c(b"")  # raises if the library is missing, before the file is blamed
        path = Path(f"{prefix}.index")
        with within("checkpoint index"):
            content, length = _read(path, 0, MAX_INDEX)
            if length > MAX_INDEX:
                raise CheckpointError(f"{path}: expected at most {MAX_INDEX} bytes, found {length}")
            try:
                self.shards, self._entries = parse_index(content.tobytes())
            except CheckpointError as error:
                raise CheckpointError(
                    f"{path}: {error}\n  hint : download it again, or save it again with TensorFlow's Saver (V2)"
                ) from None

    @property
    def shapes(self):
        """{name: (shape, dtype)}, without reading arrays."""
        return {
            name: (entry.shape, np.dtype("<f4" if entry.dtype == "bfloat16" else STORED[entry.dtype]))
            for name, entry in self._entries.items()
        }

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __contains__(self, name):
        return name in self._entries

    def __getitem__(self, name):
        entry = self._entries[name]
        path = Path(f"{self.prefix}.data-{entry.shard:05d}-of-{self.shards:05d}")
        with within(f"checkpoint tensor {name!r}"):
            stored, length = _read(path, entry.offset, entry.size)
            end = entry.offset + entry.size
            here = f"{path}, bytes {entry.offset} to {end}"
            if end > length or stored.size < entry.size:
                raise CheckpointError(f"{here}: found a file of {length}\n  hint : it is cut short; download it again")
            if (found := masked_crc32c(stored)) != entry.crc32c:
                raise CheckpointError(
                    f"{here}: expected checksum {entry.crc32c:#010x}, found {found:#010x}\n"
                    f"  hint : the file is damaged; download it again"
                )
        array = stored.view(STORED[entry.dtype])
        return (float32_of(array) if entry.dtype == "bfloat16" else array).reshape(entry.shape)


def float32_of(bfloat16):
    """The float32 values of bfloat16 bits (uint16), which are their upper halves."""
    array = bfloat16.astype("<u4")
    array <<= 16
    return array.view("<f4")


def _read(path, offset, most):
    """(uint8 array, length of the file): at most `most` bytes from `offset` on."""
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            offset = min(offset, length)
            content = np.empty(
                min(most, length - offset), np.uint8
            )  # no more than the file has, whatever the index says
            file.seek(offset)
            return content[: file.readinto(content)], length
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}\n"
            f"  there : {_listing(path.parent)}\n"
            f"  hint  : give the path that the names of its .index and .data-… files have in common"
        ) from error


def _listing(folder):
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return f"no folder {folder}"
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "") or "nothing"
