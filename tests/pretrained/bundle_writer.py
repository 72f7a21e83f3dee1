"""Writes TensorFlow's checkpoints, byte for byte as TensorFlow does: for round trips, and for damage that fits."""

from itertools import pairwise

import google_crc32c
import numpy as np

MAGIC = 0xDB4775248B80FB57
NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "uint16": 14, "float16": 19}  # uint16: bfloat16's bits


def masked(content):
    """CRC-32C as it is stored."""
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fixed32(number):
    return number.to_bytes(4, "little")


def varint(number):
    number %= 2**64  # two's complement
    groups = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def field(number, value):
    """One field of a protobuf message; zeros are left out (proto3)."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def header(shards, endianness=0, version=None):
    return field(1, shards) + field(2, endianness) + field(3, field(1, 1) if version is None else version)


def entry(dtype, shape, shard, offset, size, crc32c, more=b""):
    dims = b"".join(field(2, field(1, n)) for n in shape)
    places = field(3, shard) + field(4, offset) + field(5, size)
    return field(1, dtype) + field(2, dims) + places + varint(6 << 3 | 5) + fixed32(crc32c) + more


def piece(before, key, value):
    """A pair as it follows the key before in its block."""
    shared = 0
    while shared < min(len(before), len(key)) and before[shared] == key[shared]:
        shared += 1
    return varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value


def body(pairs, restart=16):
    """A block: its pairs and restarts, without its trailer."""
    content, restarts, before = bytearray(), [], b""
    for i, (key, value) in enumerate(pairs):
        if i % restart == 0:
            restarts.append(len(content))
            before = b""
        content += piece(before, key, value)
        before = key
    restarts = restarts or [0]
    return bytes(content) + b"".join(map(fixed32, restarts)) + fixed32(len(restarts))


def sealed(body, compression=0):
    """A block with its trailer."""
    body += bytes([compression])
    return body + fixed32(masked(body))


def separator(key, following):
    """The shortest key that is not below the one and below the other, as LevelDB finds it."""
    for i, (a, b) in enumerate(zip(key, following, strict=False)):
        if a != b:
            return key[:i] + bytes([a + 1]) if a + 1 < b else key
    return key


def successor(key):
    for i, byte in enumerate(key):
        if byte < 255:
            return key[:i] + bytes([byte + 1])
    return key


def assemble(bodies, keys, magic=MAGIC, index=None):
    """A table file of blocks and the keys that the index block has for them; `index` replaces that block."""
    content, handles = b"", []
    for block in [*bodies, body([])]:
        handles.append(varint(len(content)) + varint(len(block)))
        content += sealed(block)
    index = body(list(zip(keys, handles[:-1], strict=True)), restart=1) if index is None else index
    footer = (handles[-1] + varint(len(content)) + varint(len(index))).ljust(40, b"\0")
    return content + sealed(index) + footer + magic.to_bytes(8, "little")


def blocks(pairs, block_size=2**18, restart=16):
    """(bodies, keys for the index block) of sorted pairs, each block ended when it has `block_size` bytes."""
    parts, size = [[]], 0
    for pair in pairs:
        if size >= block_size:
            parts.append([])
        if not parts[-1]:
            size = 4
        starts = len(parts[-1]) % restart == 0
        size += len(piece(b"" if starts else parts[-1][-1][0], *pair)) + 4 * starts
        parts[-1].append(pair)
    keys = [separator(a[-1][0], b[0][0]) for a, b in pairwise(parts)] + [successor(parts[-1][-1][0])]
    return [body(part, restart) for part in parts], keys


def table(pairs, **layout):
    return assemble(*blocks(pairs, **layout))


def write_data(prefix, tensors, shards=1):
    """Writes the data files; returns the sorted pairs of the index. Every array is made, written and forgotten in turn.

    tensors: (name, array) pairs, whose arrays go to the data files by turns.
    """
    pairs, ends = [(b"", header(shards))], [0] * shards
    files = [open(f"{prefix}.data-{i:05d}-of-{shards:05d}", "wb") for i in range(shards)]  # noqa: SIM115
    for i, (name, array) in enumerate(tensors):
        raw, shard = np.ascontiguousarray(array).reshape(-1).view(np.uint8), i % shards
        files[shard].write(raw)
        place = (shard, ends[shard], raw.size, masked(raw))
        pairs.append((name.encode(), entry(NUMBERS[array.dtype.name], array.shape, *place)))
        ends[shard] += raw.size
    for file in files:
        file.close()
    return sorted(pairs)


def write_bundle(prefix, tensors, shards=1, **layout):
    """A checkpoint of {name: array} or (name, array) pairs."""
    pairs = write_data(prefix, tensors.items() if isinstance(tensors, dict) else tensors, shards)
    with open(f"{prefix}.index", "wb") as file:
        file.write(table(pairs, **layout))
