"""Read GGUF, the format of llama.cpp: metadata, and tensors that may be quantised, one at a time.

    file      = "GGUF", version (uint32), the numbers of tensors and of metadata (uint64), metadata, tensors,
                zeros up to a multiple of the alignment, the bytes of the tensors
    metadata  = key, kind (uint32), value
    tensor    = name, number of axes (uint32), their sizes, the innermost first (uint64), kind (uint32),
                offset of its bytes from the first tensor's (uint64)
    string    = length (uint64), UTF-8;  array = kind (uint32), length (uint64), values

The library `gguf` (the extra `weights`) knows how each kind of tensor is quantised, and widens it. The header is read
here, because the library's own reader makes several arrays for each string of a vocabulary, which takes seconds, and
does not end at a damaged length. Source: ggml, docs/gguf.md.
"""

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.table import Cursor, within

VERSIONS = (2, 3)
NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9
ALIGNMENT = 32  # if the metadata name no other
KINDS: tuple[str, ...] = ("F64", "F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
KINDS += ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS")


class Entry(NamedTuple):
    """Where a tensor is: bytes offset … offset + size − 1 of the file."""

    shape: tuple
    kind: str
    offset: int
    size: int


class GGUFFile(Mapping):
    """{name: array} of a file's tensors, widened to float32; float64 stays.

    metadata: {key: a number, a text, or a list of such}

    The constructor reads and checks the header. Raises CheckpointError for a file that is missing or damaged.
    """

    def __init__(self, path):
        self.path, self._library = Path(path), import_library()
        try:
            with (
                within(path),
                open(path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                self._read_header(content)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; download it again") from None
        except (OSError, ValueError) as error:  # mmap refuses an empty file by ValueError
            raise CheckpointError(f"{path}: {getattr(error, 'strerror', None) or error}") from None

    def _read_header(self, content):
        cursor = Cursor(content)
        if (magic := cursor.take(4)) != b"GGUF":
            raise CheckpointError(f"expected GGUF as its first 4 bytes, found {magic!r}")
        if (version := number(cursor, 4)) not in VERSIONS:
            raise CheckpointError(f"expected version 2 or 3, little-endian, found {version:#x}")
        n_tensors, n_metadata = number(cursor, 8), number(cursor, 8)
        self.metadata = dict(distinct("metadata", (read_metadata(cursor) for _ in range(n_metadata))))
        found = list(distinct("tensor", (read_tensor(cursor) for _ in range(n_tensors))))
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or alignment < 1:
            raise CheckpointError(f"general.alignment must be a positive whole number, found {alignment!r}")
        start = -(-cursor.at // alignment) * alignment
        self._entries = {name: self._entry(name, *tensor, start, len(content)) for name, tensor in found}

    def _entry(self, name, shape, kind, offset, start, length):
        """The Entry of a tensor. A kind that the library does not know has no size."""
        try:
            kind = self._library.GGMLQuantizationType(kind)
        except ValueError:
            return Entry(shape, f"kind {kind}", 0, 0)
        block, n_bytes = self._library.GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise CheckpointError(f"tensor {name}: expected rows of blocks of {block} for {kind.name}, found {shape}")
        entry = Entry(shape, kind.name, start + offset, math.prod(shape) // block * n_bytes)
        if entry.offset + entry.size > length:
            raise CheckpointError(f"tensor {name} ends at byte {entry.offset + entry.size} of a file of {length}")
        return entry

    @property
    def shapes(self):
        """{name: (shape, dtype)}, without reading arrays; a kind that is not supported keeps its name as its dtype."""
        dtypes = dict.fromkeys(KINDS, np.dtype("f4")) | {"F64": np.dtype("f8")}
        return {name: (entry.shape, dtypes.get(entry.kind, entry.kind)) for name, entry in self._entries.items()}

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __getitem__(self, name):
        shape, kind, offset, size = self._entries[name]
        try:
            stored = np.fromfile(self.path, np.uint8, size, offset=offset)
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror}") from error
        if len(stored) != size:
            raise CheckpointError(
                f"{self.path}: expected {size} bytes of {name}, found {len(stored)}; download it again"
            )
        if kind == "F64":
            return stored.view("<f8").reshape(shape)
        rows = stored.reshape(*shape[:-1], -1)
        return self._library.quants.dequantize(rows, self._library.GGMLQuantizationType[kind]).reshape(shape)


def import_library():
    try:
        import gguf
    except ImportError as error:
        raise CheckpointError(f"GGUF files need a library: {error}; pip install 'tinygrad-lm[weights]'") from None
    return gguf


def number(cursor, size):
    """The next unsigned number of `size` bytes."""
    return int.from_bytes(cursor.take(size), "little")


def text(cursor):
    """The next string."""
    content = cursor.take(number(cursor, 8))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"expected UTF-8 before byte {cursor.at}, found {content[:40]!r}: {error.reason}"
        ) from None


def read_metadata(cursor):
    """(key, value)"""
    key, kind = text(cursor), number(cursor, 4)
    if kind != ARRAY:
        return key, values(cursor, kind, 1)[0]
    kind = number(cursor, 4)
    return key, values(cursor, kind, number(cursor, 8))


def values(cursor, kind, count):
    """A list of the next `count` values."""
    if kind == STRING:
        return [text(cursor) for _ in range(count)]
    if kind not in NUMBERS:
        raise CheckpointError(f"expected numbers or strings before byte {cursor.at}, found kind {kind}")
    dtype = np.dtype(NUMBERS[kind])
    return np.frombuffer(cursor.take(count * dtype.itemsize), dtype).tolist()


def read_tensor(cursor):
    """(name, (shape, number of its kind, offset))"""
    name, axes = text(cursor), number(cursor, 4)
    if not 1 <= axes <= 4:
        raise CheckpointError(f"tensor {name}: expected 1 to 4 axes, found {axes}")
    sizes = [number(cursor, 8) for _ in range(axes)]
    return name, (tuple(sizes[::-1]), number(cursor, 4), number(cursor, 8))


def distinct(what, pairs):
    """The pairs. Raises CheckpointError where a name comes twice."""
    seen = set()
    for name, value in pairs:
        if name in seen:
            raise CheckpointError(f"{what} {name} is there twice")
        seen.add(name)
        yield name, value
