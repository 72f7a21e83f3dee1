"""Token files in the format of llm.c and modded-nanogpt, so their published shards can be used here.

A file is a header of 256 int32 (magic number, version, number of tokens, zeros) and the tokens, all little-endian.
Magic number 20240520, version 1: uint16. For vocabularies above 65,536, llm.c's format for Llama 3: 20240801, version
7, uint32. A document begins with an end-of-text token.
"""

import os
from bisect import bisect_right
from itertools import accumulate, repeat

import numpy as np

from tinygrad_lm.errors import DataError

HEADER = 256 * 4  # bytes
LAYOUTS = {np.dtype("<u2"): (20240520, 1), np.dtype("<u4"): (20240801, 7)}


def token_dtype(vocab_size):
    """The dtype that stores the token ids of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def shard_header(tokens, dtype):
    """The first 1024 bytes of a file with this number of tokens."""
    values = np.zeros(256, "<i4")
    values[:3] = (*LAYOUTS[dtype], tokens)
    return values.tobytes()


class Shards:
    """Token files as one long sequence: `shards.read(start, count)` -> int32 (count,), len(shards).

    Ids are checked against the vocabulary as they are read. Each read opens the file, so truncating it meanwhile is an
    error; with a memory map it would kill the process.
    counts: the number of tokens expected in each file, or None. Raises DataError with a line for each bad header
    """

    def __init__(self, paths, vocab_size, counts=None):
        self.paths, self.vocab_size = [os.fspath(path) for path in paths], vocab_size
        found, problems = [], []
        for path, expected in zip(self.paths, counts or repeat(None), strict=False):
            try:
                found.append(check_shard(path, expected))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems))
        self.dtypes = [dtype for dtype, _ in found]
        self.ends = list(accumulate(count for _, count in found))

    def __len__(self):
        return self.ends[-1] if self.ends else 0

    def read(self, start, count):
        """`count` tokens from `start` on, int32 (count,)."""
        if not 0 <= start <= start + count <= len(self):
            raise DataError(
                f"shards: expected a range within {len(self):,} tokens, found {start:,} to {start + count:,}"
            )
        parts = [np.empty(0, np.int32)]
        i = bisect_right(self.ends, start)
        while count:
            first = self.ends[i - 1] if i else 0
            size = min(count, self.ends[i] - start)
            parts.append(self._part(i, start - first, size))
            start, count, i = start + size, count - size, i + 1
        return np.concatenate(parts)

    def _part(self, i, start, count):
        path, dtype = self.paths[i], self.dtypes[i]
        ids = np.frombuffer(read_exactly(path, HEADER + start * dtype.itemsize, count * dtype.itemsize), dtype)
        if count and (largest := int(ids.max())) >= self.vocab_size:
            at = start + int(ids.argmax())
            raise DataError(
                f"token file {path}: token {at:,} is {largest}, expected ids below {self.vocab_size}; the file is "
                "damaged, or was made with another vocabulary"
            )
        return ids.astype(np.int32)


def check_shard(path, expected=None):
    """(dtype, number of tokens) of a token file. Raises DataError if its header, size and expected count disagree."""
    values = np.frombuffer(read_exactly(path, 0, HEADER), "<i4")
    kinds = {magic: (dtype, version) for dtype, (magic, version) in LAYOUTS.items()}
    magic, version, count = (int(value) for value in values[:3])
    if magic not in kinds or kinds[magic][1] != version:
        known = " or ".join(f"{magic}, {version}" for magic, (_, version) in kinds.items())
        raise DataError(
            f"token file {path}: expected magic number and version {known}, found {magic}, {version}; it is damaged, "
            "or not a token file (nanoGPT's train.bin has no header): remove it from the list, or fetch or prepare it "
            "again"
        )
    dtype = kinds[magic][0]
    size = os.stat(path).st_size
    if size != HEADER + count * dtype.itemsize:
        raise DataError(
            f"token file {path}: its header says {count:,} tokens, which take {HEADER + count * dtype.itemsize:,} "
            f"bytes; the file has {size:,}; fetch or prepare it again"
        )
    if expected not in (None, count):
        raise DataError(
            f"token file {path}: the manifest says {expected:,} tokens, the file has {count:,}; they are from "
            "different runs of prepare"
        )
    return dtype, count


def read_exactly(path, offset, size):
    """`size` bytes of a file from `offset` on. Raises DataError if there are fewer."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            content = bytearray()
            while len(content) < size and (block := file.read(size - len(content))):
                content += block
    except OSError as error:
        raise DataError(f"token file {path}: cannot be read: {error.strerror}; check the path") from None
    if len(content) < size:
        raise DataError(
            f"token file {path}: expected {size:,} bytes from byte {offset:,} on, found {len(content):,}; the file "
            "is truncated: fetch or prepare it again"
        )
    return content
