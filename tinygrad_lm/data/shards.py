"""Token files in the layout that llm.c and modded-nanogpt read and write, so that their public shards work here too.

256 int32: a magic number, a version, the number of tokens, zeros; then the tokens, all little-endian. The magic number
20240520, version 1, says uint16. For vocabularies of more than 65,536 it is llm.c's for Llama 3: 20240801, version 7,
uint32. A document begins with its end-of-text token, which parts it from the one before.
"""

import os
from bisect import bisect_right
from itertools import accumulate, repeat

import numpy as np

from tinygrad_lm.errors import DataError

HEADER = 256 * 4  # bytes
LAYOUTS = {np.dtype("<u2"): (20240520, 1), np.dtype("<u4"): (20240801, 7)}


def layout(vocab_size):
    """The dtype in which token ids of a vocabulary are stored."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def header(tokens, dtype):
    """The first 1024 bytes of a file of so many tokens."""
    values = np.zeros(256, "<i4")
    values[:3] = (*LAYOUTS[dtype], tokens)
    return values.tobytes()


class Shards:
    """Token files one after the other, as one long row: `shards.read(start, count)` -> int32 (count,), len(shards).

    Ids are checked against the vocabulary when they are read. A file is opened for each reading and read at its place
    (pread): one that is truncated meanwhile is an error, where a memory map would end the process.
    counts: how many tokens each file should have, where that is known from elsewhere. Raises DataError, for all files
    in one message, a line each, if a header lies.
    """

    def __init__(self, paths, vocab_size, counts=None):
        self.paths, self.vocab_size = [os.fspath(path) for path in paths], vocab_size
        found, problems = [], []
        for path, expected in zip(self.paths, counts or repeat(None), strict=False):
            try:
                found.append(examine(path, expected))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems))
        self.dtypes = [dtype for dtype, _ in found]
        self.ends = list(accumulate(count for _, count in found))

    def __len__(self):
        return self.ends[-1] if self.ends else 0

    def read(self, start, count):
        """The tokens from `start` on."""
        if not 0 <= start <= start + count <= len(self):
            raise DataError(f"shards: tokens {start:,} to {start + count:,} are asked for, there are {len(self):,}")
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
        ids = np.frombuffer(pread(path, HEADER + start * dtype.itemsize, count * dtype.itemsize), dtype)
        if count and (largest := int(ids.max())) >= self.vocab_size:
            at = start + int(ids.argmax())
            raise DataError(
                f"token file {path}: token {at:,} is {largest}, expected ids below {self.vocab_size}; the file is "
                "damaged, or made with another vocabulary"
            )
        return ids.astype(np.int32)


def examine(path, expected=None):
    """(dtype, number of tokens) of a token file, if its header, its length and an expected number agree."""
    values = np.frombuffer(pread(path, 0, HEADER), "<i4")
    kinds = {magic: (dtype, version) for dtype, (magic, version) in LAYOUTS.items()}
    magic, version, count = (int(value) for value in values[:3])
    if magic not in kinds or kinds[magic][1] != version:
        known = " or ".join(f"{magic}, {version}" for magic, (_, version) in kinds.items())
        raise DataError(
            f"token file {path}: expected magic number and version {known}, found {magic}, {version}; it is no token "
            "file, or damaged: leave it out, or fetch or prepare it again"
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
            f"token file {path}: the manifest says {expected:,} tokens, the file has {count:,}; one of them is of "
            "another preparation"
        )
    return dtype, count


def pread(path, offset, size):
    """Exactly these bytes of a file."""
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
            "was cut short: fetch or prepare it again"
        )
    return content
