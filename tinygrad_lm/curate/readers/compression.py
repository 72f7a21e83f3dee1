"""The bytes of a file, decompressed as they are read where it is a gzip, bzip2 or Zstandard file.

Such a file is a row of members (gzip's word; bzip2 calls them streams, Zstandard frames), each complete in itself. The
libraries' own file objects differ in what they make of a file that was cut short: some raise, some end as if all were
well. Here all three do the same: the bytes end at the damage, and `stream.damage` says where that is and why.
"""

import bz2
import io
import os
import re
import zlib
from contextlib import contextmanager

from tinygrad_lm.curate.readers.record import require_library
from tinygrad_lm.errors import DataError

PIECE = 1024  # compressed bytes at a time: Zstandard can make 32 MB of them, so more could fill the memory
BUFFER = 2**16
MAGIC = {".gz": b"\x1f\x8b\x08", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}  # RFC 1952, bzip2's manual, RFC 8878
# How a member begins, with more of its header than three bytes, which are in compressed data by chance every 16 MB.
BEGINS = {
    ".gz": re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL),
    ".bz2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    ".zst": re.compile(re.escape(MAGIC[".zst"])),
}
HEADER = 10  # bytes of the longest of these


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
            stream = ByteStream(Members(io.BufferedReader(file), suffix) if suffix else file, BUFFER)
            if not stream.peek(1) and stream.damage is None:
                raise DataError(
                    f"data file {path}: expected documents, found an empty file; give it some, or leave it out"
                )
            yield stream
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read: {error.strerror}; check the path") from None


class ByteStream(io.BufferedReader):
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

    @property
    def size(self):
        """Bytes of the file."""
        return os.fstat(self.fileno()).st_size

    def part(self, count):
        """About how many bytes of the file so many of the stream's take."""
        return int(count * self.raw.rate) if isinstance(self.raw, Members) else count

    def resume(self):
        """Goes on at the next member after a damaged one; if there is none, `damage` stays. Returns Damaged.lost."""
        return self.raw.resume(self.size)


class Members(io.RawIOBase):
    """What the members of a compressed file hold, one after the other, up to the first damage."""

    def __init__(self, file, suffix):
        self.file, self.suffix, self.damage = file, suffix, None
        self.begin, self.error, self.limit = _decompressor(suffix)
        self.member = None  # the decompressor of the one that is being read
        self.cut = False  # whether the file ends before it does
        self.start = self.given = 0  # where it starts in the file, up to where it gave bytes
        self.rest = b""  # compressed bytes after the end of the last member
        self.ready = memoryview(b"")  # decompressed bytes that nobody has asked for yet
        self.read_so_far = self.whole = 0  # decompressed bytes that were given, that belong to members without damage

    def readable(self):
        return True

    def fileno(self):
        return self.file.fileno()

    def tell(self):
        return self.read_so_far

    @property
    def rate(self):
        """Bytes of the file for a decompressed one, so far."""
        return self.file.tell() / max(1, self.read_so_far)

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
                self.cut = True
                self.damage = (
                    f"the {self.suffix} data end in the middle, at byte {self.file.tell():,}: the file was cut short"
                )
            return False
        if self.member is None:
            self.member, self.start = self.begin(), self.file.tell() - len(piece)
            self.given = self.start
        try:
            self.ready = memoryview(self.member.decompress(piece, *self.limit))
        except self.error as error:
            self.damage = f"the {self.suffix} data are damaged at or before byte {self.file.tell():,}: {error}"
            return False
        self.rest = b""
        if self.ready:
            self.given = self.file.tell()
        if self.member.eof:
            self.rest, self.member = self.member.unused_data, None
            self.whole = self.read_so_far + len(self.ready)
        return True

    def resume(self, size):
        """Looks for the next member from the beginning of the damaged one on, whose length is not known."""
        place, before = self.start + 1, b""
        self.file.seek(place)
        while block := self.file.read(BUFFER):
            if found := BEGINS[self.suffix].search(before + block):
                place += found.start() - len(before)
                self.file.seek(place)
                self.member, self.rest, self.damage, self.cut = None, b"", None, False
                return max(0, place - self.given)
            place, before = place + len(block), (before + block)[1 - HEADER :]
        return size if self.cut else size - self.given


def _decompressor(suffix):
    """(what begins a member, the errors of one that is damaged, the most bytes to make at a time where one can say)"""
    if suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error, ()
    if suffix == ".bz2":
        return bz2.BZ2Decompressor, (OSError, ValueError), (BUFFER,)
    require_library("zstandard", "a .zst file")
    import zstandard

    return lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError, ()
