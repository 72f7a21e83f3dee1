"""The bytes of a file, decompressed as they are read where it is a gzip, bzip2 or Zstandard file.

Such a file is a row of members (gzip's word; bzip2 calls them streams, Zstandard frames), each complete in itself. The
libraries' own file objects differ in what they make of a file that was cut short: some raise, some end as if all were
well. Here all three do the same: the bytes end at the damage, and `stream.damage` says where that is and why.
"""

import bz2
import io
import os
import zlib
from contextlib import contextmanager

from tinygrad_lm.curate.readers.libraries import need
from tinygrad_lm.errors import DataError

PIECE = 1024  # compressed bytes at a time: Zstandard can make 32 MB of them, so more could fill the memory
BUFFER = 2**16
MAGIC = {".gz": b"\x1f\x8b\x08", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}  # RFC 1952, bzip2's manual, RFC 8878


@contextmanager
def open_bytes(path):
    """A Stream of the file's bytes. Raises DataError if it cannot be read, is empty, or not of its suffix's kind."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(4)
            file.seek(0)
            suffix = next((suffix for suffix, magic in MAGIC.items() if head.startswith(magic)), None)
            named = next((suffix for suffix in MAGIC if os.fspath(path).lower().endswith(suffix)), None)
            if head and named not in (None, suffix):
                raise DataError(
                    f"data file {path}: expected a {named} file, which begins with {MAGIC[named].hex(' ')}, found "
                    f"{head.hex(' ')}; fetch it again, or name it as what it is"
                )
            stream = Stream(Members(io.BufferedReader(file), suffix) if suffix else file, BUFFER)
            if not stream.peek(1) and stream.damage is None:
                raise DataError(
                    f"data file {path}: expected documents, found an empty file; give it some, or leave it out"
                )
            yield stream
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read: {error.strerror}; check the path") from None


class Stream(io.BufferedReader):
    """Bytes to read, with what is known of their soundness."""

    @property
    def damage(self):
        """Why the bytes end before they should; None where they do not, or have not ended yet."""
        return getattr(self.raw, "damage", None)

    @property
    def sound(self):
        """Whether the compressed data up to here are known to be whole. Their checksum stands at their end."""
        if self.peek(1):
            return True
        return self.damage is None or self.tell() <= self.raw.whole

    def resume(self):
        """Goes on at the next member after a damaged one; False if there is none."""
        return self.damage is not None and self.raw.resume()


class Members(io.RawIOBase):
    """What the members of a compressed file hold, one after the other, up to the first damage."""

    def __init__(self, file, suffix):
        self.file, self.suffix, self.damage = file, suffix, None
        self.begin, self.error, self.limit = _decompressor(suffix)
        self.member = None  # the decompressor of the one that is being read
        self.start = 0  # where it starts in the file
        self.rest = b""  # compressed bytes after the end of the last member
        self.ready = memoryview(b"")  # decompressed bytes that nobody has asked for yet
        self.read_so_far = self.whole = 0  # decompressed bytes that were given, that belong to members without damage

    def readable(self):
        return True

    def tell(self):
        return self.read_so_far

    def readinto(self, buffer):
        while not self.ready and self.damage is None and self._advance():
            pass
        count = min(len(buffer), len(self.ready))
        buffer[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        self.read_so_far += count
        return count

    def _advance(self):
        """Decompresses one piece of the file; False at its end."""
        hungry = getattr(self.member, "needs_input", True)  # only bzip2's has more to give than it may
        piece = (self.rest or self.file.read(PIECE)) if hungry else b""
        if hungry and not piece:
            if self.member is not None:
                self.damage = (
                    f"the {self.suffix} data end in the middle, at byte {self.file.tell():,}: the file was cut short"
                )
            return False
        if self.member is None:
            self.member, self.start = self.begin(), self.file.tell() - len(piece)
        try:
            self.ready = memoryview(self.member.decompress(piece, *self.limit))
        except self.error as error:
            self.damage = f"the {self.suffix} data are damaged at or before byte {self.file.tell():,}: {error}"
            return False
        self.rest = b""
        if self.member.eof:
            self.rest, self.member = self.member.unused_data, None
            self.whole = self.read_so_far + len(self.ready)
        return True

    def resume(self):
        """Looks for the next member from the beginning of the damaged one on, whose length is not known."""
        place, magic, before = self.start + 1, MAGIC[self.suffix], b""
        self.file.seek(place)
        while block := self.file.read(BUFFER):
            found = (before + block).find(magic)
            if found >= 0:
                self.file.seek(place - len(before) + found)
                self.member, self.rest, self.damage = None, b"", None
                return True
            place, before = place + len(block), block[1 - len(magic) :]
        return False


def _decompressor(suffix):
    """(what begins a member, the errors of one that is damaged, the most bytes to make at a time where one can say)"""
    if suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error, ()
    if suffix == ".bz2":
        return bz2.BZ2Decompressor, (OSError, ValueError), (BUFFER,)
    need("zstandard", "a .zst file")
    import zstandard

    return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError, ()
