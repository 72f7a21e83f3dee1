"""Read the bytes of a file, decompressing gzip, bzip2 and Zstandard.

Such a file is a sequence of independent members (gzip's word; bzip2 calls them streams, Zstandard frames). The
libraries' own file objects treat truncated files differently: some raise, some end silently. Here all three behave the
same: the bytes end at the damage, and `stream.damage` says where it is and why.
"""

import bz2
import io
import os
import re
import zlib
from contextlib import contextmanager

from tinygrad_lm.curate.readers.record import require_library
from tinygrad_lm.errors import DataError

PIECE = 1024  # compressed bytes read at once; Zstandard can expand them to 32 MB
BUFFER = 2**16
MAGIC = {".gz": b"\x1f\x8b\x08", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}  # RFC 1952, bzip2's manual, RFC 8878
# The beginning of a member: more than three bytes, which occur by chance every 16 MB of compressed data.
BEGINS = {
    ".gz": re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL),
    ".bz2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    ".zst": re.compile(re.escape(MAGIC[".zst"])),
}
HEADER = 10  # bytes of the longest of these
SHORTEST = {".gz": 20, ".bz2": 14, ".zst": 0}  # bytes of an empty member; gzip and bzip2 ignore fewer after another
LONGEST_WINDOW = 2**31  # bytes, as of zstd --long=31; a frame takes as much memory as its window


@contextmanager
def open_bytes(path):
    """Yield a ByteStream of a file. Raises DataError if it is unreadable, empty, or contradicts its suffix."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(4)
            file.seek(0)
            suffix = next((suffix for suffix, magic in MAGIC.items() if head.startswith(magic)), None)
            named = next((suffix for suffix in MAGIC if os.fspath(path).lower().endswith(suffix)), None)
            if head and named not in (None, suffix):
                raise DataError(
                    f"data file {path}: expected a {named} file, which begins with {MAGIC[named].hex(' ')}, found "
                    f"{head.hex(' ')}; download it again, or correct its suffix"
                )
            stream = ByteStream(Members(io.BufferedReader(file), suffix) if suffix else file, BUFFER)
            if not stream.peek(1) and stream.damage is None:
                raise DataError(f"data file {path}: expected documents, found an empty file; remove it from the list")
            yield stream
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"data file {path}: cannot be read: {error.strerror}; check the path") from None


class ByteStream(io.BufferedReader):
    """A stream of bytes that knows about damage."""

    @property
    def damage(self):
        """Why the bytes end too early; None if they do not, or have not ended yet."""
        return getattr(self.raw, "damage", None)

    @property
    def sound(self):
        """Whether the compressed data up to here are complete; a member's checksum is at its end."""
        if self.peek(1):
            return True
        return self.damage is None or self.tell() <= self.raw.whole

    @property
    def size(self):
        """The size of the file in bytes."""
        return os.fstat(self.fileno()).st_size

    def part(self, count):
        """The approximate bytes of the file for `count` bytes of the stream."""
        return int(count * self.raw.rate) if isinstance(self.raw, Members) else count

    def resume(self):
        """Continue at the next member after a damaged one; if there is none, `damage` stays. Returns Damaged.lost."""
        return self.raw.resume(self.size)


class Members(io.RawIOBase):
    """The decompressed members of a file, up to the first damage."""

    def __init__(self, file, suffix):
        self.file, self.suffix, self.damage = file, suffix, None
        self.begin, self.error, self.limit = _decompressor(suffix)
        self.member = None  # the current member's decompressor
        self.cut = False  # whether the file ends inside a member
        self.start = self.given = 0  # where the member starts in the file, and up to where it was decompressed
        self.rest = b""  # compressed bytes after the end of the last member
        self.ready = memoryview(b"")  # decompressed bytes that were not read yet
        self.read_so_far = self.whole = 0  # decompressed bytes that were read; that are in complete members

    def readable(self):
        return True

    def fileno(self):
        return self.file.fileno()

    def tell(self):
        return self.read_so_far

    @property
    def rate(self):
        """Bytes of the file per decompressed byte, so far."""
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
        """Decompress one piece of the file. Returns False at its end."""
        hungry = getattr(self.member, "needs_input", True)  # only bzip2 limits its output
        piece = (self.rest or self.file.read(PIECE)) if hungry else b""
        if self.member is None and self.given:
            piece, self.rest = self._without_padding(piece), b""
        if hungry and not piece:
            if self.member is not None:
                self.cut = True
                self.damage = (
                    f"the {self.suffix} data end inside a member, at byte {self.file.tell():,}: the file is truncated"
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

    def _without_padding(self, piece):
        """A piece after the end of a member, without what is not another one: zeros, with which tapes fill their
        blocks, and a few other bytes at the end of the file."""
        while (piece := piece.lstrip(b"\0")) == b"" and (block := self.file.read(PIECE)):
            piece = block
        if len(piece) < SHORTEST[self.suffix] and not MAGIC[self.suffix].startswith(piece[:3]):
            piece += self.file.read(PIECE)
            piece = b"" if len(piece) < SHORTEST[self.suffix] else piece
        return piece

    def resume(self, size):
        """Search for the next member from the beginning of the damaged one, whose length is unknown."""
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
    """(function that makes a decompressor, its errors, its extra arguments: the most bytes to return, if supported)"""
    if suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error, ()
    if suffix == ".bz2":
        return bz2.BZ2Decompressor, (OSError, ValueError), (BUFFER,)
    require_library("zstandard", "a .zst file")
    import zstandard

    library = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW)
    return library.decompressobj, zstandard.ZstdError, ()
