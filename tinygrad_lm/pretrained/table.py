"""LevelDB's sorted table, the file format of a TensorFlow checkpoint's index: a sorted map of byte strings.

    file    = data blocks, metaindex block (here always empty), index block, footer
    block   = pairs, restart array (uint32 each), their number (uint32); compression (1 byte), masked CRC-32C (uint32)
    pair    = bytes shared with the previous key, bytes added, length of the value (varints); added bytes, value
    footer  = offset and size of the metaindex block, of the index block (varints), zeros, magic; 48 bytes

The index block holds a pair for each data block: a key at or after its last one, and its offset and size.
Sources: LevelDB, doc/table_format.md; TensorFlow, core/lib/io/{format,block_builder,table_builder}.cc.
"""

from contextlib import contextmanager

from tinygrad_lm.errors import CheckpointError

MAGIC = 0xDB4775248B80FB57
FOOTER, TRAILER = 48, 5
RESTART = 16  # writers store at least every 16th key whole, so keys unpack to at most 16 times their block


@contextmanager
def within(where):
    """Within the block the message of a CheckpointError begins with `where`."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None


def masked_crc32c(content):
    """CRC-32C (Castagnoli) of bytes or a uint8 array, rotated and shifted as LevelDB stores it."""
    try:
        from google_crc32c import value
    except ImportError as error:
        raise CheckpointError(
            "google-crc32c, which verifies TensorFlow's checkpoints, is missing: pip install 'tinygrad-lm[weights]'"
        ) from error
    crc = value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


class Cursor:
    """A position in bytes, which never moves past their end."""

    def __init__(self, content):
        self.content, self.at = content, 0

    @property
    def left(self):
        return len(self.content) - self.at

    def take(self, count):
        """The next `count` bytes."""
        if count > self.left:
            raise CheckpointError(f"expected {count} more bytes from byte {self.at} on, found {self.left}")
        self.at += count
        return self.content[self.at - count : self.at]

    def varint(self):
        """The next number: seven bits per byte, the lowest first; the top bit is set in all bytes but the last."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
        if byte >= 128 or value >= 2**64:
            raise CheckpointError(f"expected a number of at most 64 bits, found a longer one up to byte {self.at}")
        return value


def read_table(content):
    """[(key, value)] of a table's bytes, keys ascending. Raises CheckpointError for any deviation from the format."""
    end = len(content) - FOOTER
    if end < 0:
        raise CheckpointError(f"expected {FOOTER} bytes or more, found {len(content)}")
    if (magic := int.from_bytes(content[-8:], "little")) != MAGIC:
        raise CheckpointError(
            f"expected {MAGIC:#x} as its last 8 bytes, found {magic:#x}: it is cut short or not an index"
        )
    with within("footer"):
        footer = Cursor(content[end:-8])
        metaindex, index = _handle(footer), _handle(footer)
        if any(footer.take(footer.left)):
            raise CheckpointError("expected zeros between its numbers and its last 8 bytes")
    keys, handles = [], []
    for key, value in _block(content, *index):
        with within(f"index block, key {key!r}"):
            cursor = Cursor(value)
            keys.append(key)
            handles.append(_handle(cursor))
            if cursor.left:
                raise CheckpointError(f"expected the offset and size of a block, found {cursor.left} more bytes")

    at = 0
    for offset, size in [*handles, metaindex, index]:
        if offset != at:
            raise CheckpointError(f"expected a block at byte {at}, where the previous one ends, found it at {offset}")
        at += size + TRAILER
    if at != end:
        raise CheckpointError(f"expected the last block to end at byte {end}, where the footer begins, found {at}")

    if _block(content, *metaindex):
        raise CheckpointError("expected an empty metaindex block")
    pairs = []
    for i, handle in enumerate(handles):
        block = _block(content, *handle)
        if not block or block[-1][0] > keys[i] or (i > 0 and block[0][0] <= keys[i - 1]):
            raise CheckpointError(f"block at byte {handle[0]}: its keys do not match the index block")
        pairs += block
    return pairs


def _handle(cursor):
    """(offset, size) of a block, without its trailer."""
    return cursor.varint(), cursor.varint()


def _block(content, offset, size):
    """[(key, value)] of the block at content[offset : offset + size], keys ascending."""
    with within(f"block at byte {offset}"):
        end = offset + size
        if end + TRAILER > len(content):
            raise CheckpointError(f"expected it to end before byte {len(content)}, found it {size} bytes long")
        found = masked_crc32c(content[offset : end + 1])  # the checksum covers the compression byte
        if (expected := int.from_bytes(content[end + 1 : end + TRAILER], "little")) != found:
            raise CheckpointError(f"expected checksum {expected:#010x}, found {found:#010x}")
        if compression := content[end]:
            found = "compressed with snappy" if compression == 1 else f"of compression {compression}"
            raise CheckpointError(f"expected it uncompressed, as TensorFlow's Saver writes it, found it {found}")

        restarts = int.from_bytes(content[max(offset, end - 4) : end], "little")
        if 4 * (restarts + 1) > size:
            raise CheckpointError(f"expected at most {size} bytes of restarts, found {restarts} of 4 bytes")
        cursor = Cursor(content[offset : end - 4 * (restarts + 1)])
        pairs, key, unpacked = [], b"", 0
        while cursor.left:
            shared, added, length = cursor.varint(), cursor.varint(), cursor.varint()
            if shared > len(key):
                raise CheckpointError(f"expected a key that shares at most {len(key)} bytes, found {shared}")
            before, key = key, key[:shared] + cursor.take(added)
            if pairs and key <= before:
                raise CheckpointError(f"expected a key after {before!r}, found {key!r}")
            unpacked += len(key)
            if unpacked > RESTART * size:
                raise CheckpointError(f"expected keys of at most {RESTART} times the block's {size} bytes, found more")
            pairs.append((key, cursor.take(length)))
        return pairs
