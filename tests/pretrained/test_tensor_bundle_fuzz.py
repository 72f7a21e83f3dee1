"""Thousands of damaged checkpoints: each gives the right arrays or a CheckpointError, and neither takes much memory.

Damage under a checksum shows that the checksum is looked at. Damage with checksums made to fit it reaches what is
behind: the index then says something else, and it may only give arrays that the data files' checksums vouch for.
Run as a program this file counts: PYTHONPATH=tests python tests/pretrained/test_tensor_bundle_fuzz.py 100000
"""

import os
import random
import sys
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import settings
from pretrained import bundle_writer as writer

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.tensor_bundle import TensorBundle

MEMORY = 2**15  # bytes; these checkpoints have 1,000
LAYOUT = {"block_size": 130, "restart": 3}
TENSORS = {
    "model/h0/attn/c_attn/w": np.arange(24, dtype="f4").reshape(1, 4, 6),
    "model/h0/attn/c_attn/b": np.arange(6, dtype="f8"),
    "model/h0/ln_1/g": np.full((3, 1), 0.5, "f2"),
    "model/h1/ln_1/g": np.arange(16256, 16266, dtype="u2"),  # bfloat16
    "model/wpe": np.arange(100, 106).astype("i4").reshape(2, 3),
    "model/wte": np.arange(7, dtype="i8"),
    "none": np.ones((0, 2), "f4"),
    "step": np.array(200),
}
# Where readers stumble: the edges of 7, 8, 31, 32, 63 and 64 bits, and numbers that never end.
EDGES = [0, 1, 5, 64, 127, 128, 255, 2**21, *(2**n - 1 for n in (31, 32, 63, 64)), *(2**n for n in (31, 32, 60, 63))]
NUMBERS = [*map(writer.varint, EDGES), b"\x80" * 9 + b"\x02", b"\xff" * 10, b"\x80" * 30, b"\x80\x00"]


def damaged(draw, content):
    """Bytes with one to three things done to them."""
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
        near = min(a + draw.randrange(1, 12), len(content))
        match draw.choice(["flip", "flip", "byte", "number", "insert", "remove", "cut", "double", "swap"]):
            case "flip" if a < len(content):
                content[a] ^= 1 << draw.randrange(8)
            case "byte" if a < len(content):
                content[a] = draw.choice([0, 1, 127, 128, 255, draw.randrange(256)])
            case "number":
                content[a : a + draw.choice([0, 1, 1, 2])] = draw.choice(NUMBERS)
            case "insert":
                content[a:a] = draw.randbytes(draw.randrange(1, 9))
            case "remove":
                del content[a:near]
            case "cut":
                del content[draw.choice([a, b]) :]
            case "double":
                content[near:near] = content[a:near]
            case "swap":
                middle = draw.randrange(a, b + 1)
                content[a:b] = content[middle:b] + content[a:middle]
    return bytes(content)


def index_file(draw, pairs, files):
    return {".index": damaged(draw, files[".index"])}


def data_file(draw, pairs, files):
    end = draw.choice([end for end in files if end != ".index"])
    return {end: damaged(draw, files[end])}


def a_file_is_gone(draw, pairs, files):
    return {draw.choice(list(files)): None}


def block(draw, pairs, files):
    """The bytes of one block, sealed again."""
    bodies, keys = writer.blocks(pairs, **LAYOUT)
    i = draw.randrange(len(bodies))
    bodies[i] = damaged(draw, bodies[i])
    return {".index": writer.assemble(bodies, keys)}


def index_block(draw, pairs, files):
    bodies, keys = writer.blocks(pairs, **LAYOUT)
    handles, at = [], 0
    for body in bodies:
        handles.append(writer.varint(at) + writer.varint(len(body)))
        at += len(body) + 5
    index = damaged(draw, writer.body(list(zip(keys, handles, strict=True)), restart=1))
    return {".index": writer.assemble(bodies, keys, index=index)}


def order_of_blocks(draw, pairs, files):
    bodies, keys = writer.blocks(pairs, **LAYOUT)
    for parts in draw.choice([[bodies], [keys], [bodies, keys]]):
        i, j = draw.sample(range(len(parts)), 2)
        parts[i], parts[j] = parts[j], draw.choice([parts[i], parts[j]])
    return {".index": writer.assemble(bodies, keys)}


def message(draw, pairs, files):
    """One value of the table, the header or an entry."""
    pairs = list(pairs)
    i = draw.randrange(len(pairs))
    pairs[i] = pairs[i][0], damaged(draw, pairs[i][1])
    return {".index": writer.table(pairs, **LAYOUT)}


def key(draw, pairs, files):
    """One key: another name, the same twice, or not in order."""
    pairs = list(pairs)
    i = draw.randrange(len(pairs))
    other = damaged(draw, pairs[i][0]) if draw.random() < 0.7 else draw.choice(pairs)[0]
    pairs[i] = other, pairs[i][1]
    return {".index": writer.table(sorted(pairs) if draw.random() < 0.5 else pairs, **LAYOUT)}


def numbers(draw, pairs, files):
    """A well-formed entry that says one absurd thing among true ones."""
    at = draw.randrange(1, len(pairs))
    true = {"dtype": 3, "shape": (2, 3), "shard": 0, "offset": 0, "size": 24, "crc32c": 0}
    name = draw.choice(list(true))
    edge = draw.choice([*EDGES, -1, -24])
    shape = draw.choice([(edge,), (edge, 3), (0, edge, edge), (1,) * 65])
    absurd = {"shape": shape, "crc32c": edge % 2**32}.get(name, edge)
    value = writer.entry(**true | {name: absurd})
    return {".index": writer.table([*pairs[:at], (pairs[at][0], value), *pairs[at + 1 :]], **LAYOUT)}


OUTCOMES = {"index refused", "all tensors refused", "some tensors refused", "all arrays right"}
UNDER_CHECKSUMS = [index_file, data_file, a_file_is_gone]
WITH_CHECKSUMS = [block, index_block, order_of_blocks, message, key, numbers]


def stored(array):
    """The bytes that an array may have been read from: its own, or the upper halves where it was a bfloat16."""
    return {array.tobytes(), (array.view("<u4") >> 16).astype("<u2").tobytes() if array.dtype == "f4" else None}


def read(prefix):
    """({name: array or None}, what the reading came to)."""
    try:
        bundle = TensorBundle(prefix)
    except CheckpointError as error:
        return None, "index refused" if f"{prefix}.index" in str(error) else f"no file in: {error}"
    arrays = {}
    for name, (shape, dtype) in bundle.shapes.items():
        try:
            arrays[name] = bundle[name]
            assert (arrays[name].shape, arrays[name].dtype) == (shape, dtype)
        except CheckpointError as error:
            arrays[name] = None
            if repr(name) not in str(error):
                return arrays, f"no name in: {error}"
    lost = sum(array is None for array in arrays.values())
    return arrays, f"{'some' if lost < len(arrays) else 'all'} tensors refused" if lost else "all arrays right"


def check(arrays, exact):
    """Nothing was made up: these are the arrays that were written, or where the index was written anew, their bytes."""
    known = {name: x.tobytes() for name, x in TENSORS.items()}
    if exact:
        assert arrays.keys() == TENSORS.keys()
    for name, array in arrays.items():
        if array is not None:
            assert stored(array) & ({known[name]} if exact else {*known.values()}), name
            assert not exact or array.shape == TENSORS[name].shape


def measured(f, *arguments):
    """(what f gives, the most bytes it took): the second time where it took many, as Python's tables grow at times."""
    for _ in range(2):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result = f(*arguments)
        if (peak := tracemalloc.get_traced_memory()[1] - before) < MEMORY:
            break
    return result, peak


def fuzz(count, folder):
    """Counts (kind of damage, outcome) of the cases 0 to count - 1, and the most memory that one took, in bytes."""
    prefix = folder / "model.ckpt"
    pairs = writer.write_data(prefix, TENSORS.items(), shards=2)
    files = {".index": writer.table(pairs, **LAYOUT)}
    files |= {path.name.removeprefix("model.ckpt"): path.read_bytes() for path in folder.iterdir()}
    for end, content in files.items():
        Path(f"{prefix}{end}").write_bytes(content)
    assert read(prefix)[1] == "all arrays right"
    counts, most = Counter(), 0
    tracemalloc.start()
    try:
        for case in range(count):
            draw = random.Random(case)
            damage = draw.choice(UNDER_CHECKSUMS if case % 2 else WITH_CHECKSUMS)
            changed = damage(draw, pairs, files)
            for end, content in changed.items():
                os.unlink(f"{prefix}{end}") if content is None else Path(f"{prefix}{end}").write_bytes(content)
            try:
                (arrays, came_to), peak = measured(read, prefix)
                assert came_to in OUTCOMES, came_to
                if came_to != "index refused":
                    check(arrays, exact=damage in UNDER_CHECKSUMS)
                assert peak < MEMORY, f"{peak} bytes"
            except Exception as error:
                raise AssertionError(f"case {case}, {damage.__name__}: {type(error).__name__}: {error}") from error
            counts[damage.__name__, came_to] += 1
            most = max(most, peak)
            for end in changed:
                Path(f"{prefix}{end}").write_bytes(files[end])
    finally:
        tracemalloc.stop()
    return counts, most


def test_damage_gives_the_right_arrays_or_a_checkpoint_error(tmp_path):
    counts, _ = fuzz(20 * settings().max_examples, tmp_path)
    for damage in UNDER_CHECKSUMS + WITH_CHECKSUMS:  # the damage was real, and not always at the first look
        outcomes = {came_to for name, came_to in counts if name == damage.__name__}
        assert outcomes - {"all arrays right"}, damage
    assert {came_to for _, came_to in counts} >= {"index refused", "some tensors refused", "all arrays right"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        counts, most = fuzz(int(sys.argv[1]), Path(folder))
    for (damage, came_to), n in sorted(counts.items()):
        print(f"{damage:16} {came_to:22} {n:8,}")
    print(f"{'in all':39} {counts.total():8,}; at most {most:,} bytes of memory")
