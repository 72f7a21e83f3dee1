"""The index of a TensorFlow checkpoint: protobuf messages in a table.

The empty name maps to the header (number of data files), a tensor's name to its dtype, shape, place and checksum.
Sources: TensorFlow, core/protobuf/tensor_bundle.proto, core/framework/{types,tensor_shape,versions}.proto.
"""

import math
from typing import NamedTuple

import numpy as np

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.table import Cursor, read_table, within

VERSION = 1  # of the format

# Protobuf messages: {(field number, wire type): name}. Wire types: 0 varint, 2 bytes, 5 four bytes.
HEADER = {(1, 0): "num_shards", (2, 0): "endianness", (3, 2): "version"}
VERSIONS = {(1, 0): "producer", (2, 0): "min_consumer"}
ENTRY = {(1, 0): "dtype", (2, 2): "shape", (3, 0): "shard_id", (4, 0): "offset", (5, 0): "size", (6, 5): "crc32c",
         (7, 2): "slices"}  # fmt: skip
SHAPE = {(2, 2): "dim"}
DIM = {(1, 0): "size"}

# TensorFlow's dtypes by number, and how the supported ones are stored.
NAMES = ["invalid", "float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64", "bool",
         "qint8", "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16", "complex128", "float16", "resource",
         "variant", "uint32", "uint64"]  # fmt: skip
STORED = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8"}


class Entry(NamedTuple):
    """Where a tensor is: bytes offset … offset + size − 1 of the data file `shard`."""

    dtype: str
    shape: tuple
    shard: int
    offset: int
    size: int
    crc32c: int


def parse_index(content):
    """(number of data files, {name: Entry}) of an index. One error lists all wrong entries."""
    pairs = read_table(content)
    if not pairs or pairs[0][0] != b"":
        raise CheckpointError("expected the header under an empty name, found none")
    with within("header"):
        shards = _header(pairs[0][1])
    entries, problems = {}, []
    for key, value in pairs[1:]:
        try:
            with within(f"tensor {key.decode('utf-8', 'backslashreplace')!r}"):
                entries[_text(key)] = _entry(value, shards)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        more = f"; and {len(problems) - 10} more of {len(pairs) - 1} tensors" if problems[10:] else ""
        raise CheckpointError("; ".join(problems[:10]) + more)
    return shards, entries


def _header(content):
    fields = _message(content, HEADER)
    shards, endianness = _number(fields, "num_shards"), _number(fields, "endianness")
    _expect("num_shards", shards, 1 <= shards < 2**31, "1 or more")
    _expect("endianness", endianness, endianness == 0, "0 (little-endian); 1 was written on a big-endian machine")
    for version in fields["version"]:
        needed = _number(_message(version, VERSIONS), "min_consumer")
        _expect("min_consumer", needed, 0 <= needed <= VERSION, f"a format of version {VERSION} at most")
    return shards


def _entry(content, shards):
    fields = _message(content, ENTRY)
    if fields["slices"]:
        raise CheckpointError("expected a whole tensor, found a partitioned variable; save it whole")
    number = _number(fields, "dtype")
    dtype = NAMES[number] if 0 < number < len(NAMES) else str(number)
    _expect("dtype", f"{dtype} (TensorFlow's number {number})", dtype in STORED, ", ".join(STORED))

    dims = [dim for shape in fields["shape"] for dim in _message(shape, SHAPE)["dim"]]
    _expect("number of axes", len(dims), len(dims) <= 64, "64 at most, as in NumPy")
    shape = tuple(_number(_message(dim, DIM), "size") for dim in dims)
    _expect("shape", shape, min(shape, default=0) >= 0, "no unknown sizes")
    _expect("shape", shape, math.prod(filter(None, shape)) < 2**60, "sizes that can be counted in 64 bits")

    shard, offset, size = (_number(fields, name) for name in ("shard_id", "offset", "size"))
    _expect("shard_id", shard, 0 <= shard < shards, f"0 to {shards - 1}")
    _expect("offset", offset, offset >= 0, "0 or more")
    expected = math.prod(shape) * np.dtype(STORED[dtype]).itemsize
    _expect("size", size, size == expected, f"{expected} bytes for {dtype} of shape {shape}")
    return Entry(dtype, shape, shard, offset, size, _number(fields, "crc32c"))


def _expect(name, found, right, expected):
    if not right:
        raise CheckpointError(f"{name}: expected {expected}; found {found}")


def _text(key):
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise CheckpointError("expected a name in UTF-8") from None


def _message(content, schema):
    """{name: [values]} of a protobuf message. Other fields are refused: they may change the meaning of these."""
    fields, cursor = {name: [] for name in schema.values()}, Cursor(content)
    while cursor.left:
        number, kind = divmod(cursor.varint(), 8)
        if (number, kind) not in schema:
            raise CheckpointError(f"expected one of the fields {', '.join(fields)}; found number {number}, type {kind}")
        if kind == 0:
            value = cursor.varint()
            value -= (value >= 2**63) * 2**64  # two's complement
        elif kind == 2:
            value = cursor.take(cursor.varint())
        else:
            value = int.from_bytes(cursor.take(4), "little")
        fields[schema[number, kind]].append(value)
    return fields


def _number(fields, name):
    """The value of a field that occurs at most once; 0 where it is absent (proto3)."""
    values = fields[name] or [0]
    _expect(name, values, len(values) == 1, "one number")
    return values[0]
