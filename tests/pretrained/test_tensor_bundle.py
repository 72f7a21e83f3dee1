"""TensorFlow's checkpoints: what TensorFlow wrote is read bit for bit, and what is wrong is refused by name."""

import gzip
import json
import shutil
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pretrained import bundle_writer as writer
from pretrained.make_tf_fixtures import FOLDER, HPARAMS, KINDS, MANY, gpt2_shapes, value

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.pretrained.tensor_bundle import MAX_INDEX, TensorBundle

ONE = "data-00000-of-00001"


def dtype_of(name):
    return name.split("/")[-1]


def bits(array):
    """The upper halves of float32: bfloat16, where the lower halves are zeros."""
    return (array.view("<u4") >> 16).astype("<u2")


def refused(prefix, *words):
    """Opening it is a CheckpointError that says all of these words, among them the file; its message."""
    with pytest.raises(CheckpointError) as caught:
        TensorBundle(prefix)
    for word in (f"{prefix}.index", *words):
        assert word in str(caught.value)
    return str(caught.value)


@pytest.fixture
def many(tmp_path):
    for path in FOLDER.glob("many*"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return tmp_path / "many"


# ---- what TensorFlow wrote


def test_gpt2_as_openai_released_it():
    bundle = TensorBundle(FOLDER / "gpt2" / "model.ckpt")
    shapes = gpt2_shapes(**json.loads((FOLDER / "gpt2" / "hparams.json").read_text()))
    assert bundle.shapes == {name: (shape, np.float32) for name, shape in shapes.items()}
    assert shapes["model/h1/attn/c_attn/w"] == (1, 8, 24)
    for name, array in bundle.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, value(name, shapes[name]), equal_nan=False)


@pytest.mark.parametrize(("file", "more"), [("kinds", {}), ("merged", {"second/float32": (3, 3)})])
def test_all_dtypes_all_shapes_several_data_files(file, more):
    bundle = TensorBundle(FOLDER / file)
    assert bundle.keys() == (KINDS | more).keys()
    for name, shape in (KINDS | more).items():
        expected = value(name, shape, dtype_of(name))
        assert bundle.shapes[name] == (shape, expected.dtype)
        assert bundle[name].dtype == expected.dtype
        assert bundle[name].shape == shape
        assert bundle[name].tobytes() == expected.tobytes()
        assert bundle[name].flags.writeable


def test_an_index_of_several_blocks(many):
    bundle = TensorBundle(many)
    assert list(bundle) == MANY
    assert [bundle[name].item() for name in MANY] == [i % 4 for i in range(len(MANY))]


def test_the_writer_of_these_tests_writes_what_tensorflow_writes(many, tmp_path):
    """Byte for byte: what it makes for the tests below is the true format."""
    kinds = {name: value(name, shape, dtype_of(name)) for name, shape in KINDS.items()}
    for written, tensors in {
        FOLDER / "gpt2" / "model.ckpt": {n: value(n, shape) for n, shape in sorted(gpt2_shapes(**HPARAMS).items())},
        FOLDER / "kinds": {name: bits(x) if dtype_of(name) == "bfloat16" else x for name, x in kinds.items()},
        many: {name: np.full(1, i % 4, np.float32) for i, name in enumerate(MANY)},
    }.items():
        writer.write_bundle(tmp_path / "own", tensors)
        for end in ("index", ONE):
            assert (tmp_path / f"own.{end}").read_bytes() == written.with_name(f"{written.name}.{end}").read_bytes()


def test_dtypes_that_are_not_read_are_refused_all_at_once():
    told = refused(FOLDER / "others", "tensor 'flags'", "bool (TensorFlow's number 10)")
    assert "tensor 'words'" in told
    assert "string" in told
    assert "'good'" not in told


def test_a_partitioned_variable_is_refused():
    refused(FOLDER / "sliced", "tensor 'table'", "partitioned")


# ---- round trips

ARRAYS = st.sampled_from(list(writer.NUMBERS)).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype).newbyteorder("<"), hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1) | st.text("ab/", min_size=1)


@given(
    tensors=st.dictionaries(NAMES, ARRAYS, max_size=12),
    shards=st.integers(1, 3),
    block_size=st.integers(1, 400),
    restart=st.integers(1, 16),
)
def test_round_trip(tensors, shards, block_size, restart, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("bundle") / "model.ckpt"
    writer.write_bundle(prefix, tensors, shards, block_size=block_size, restart=restart)
    bundle = TensorBundle(prefix)
    assert list(bundle) == sorted(tensors, key=str.encode)
    assert len(bundle) == len(tensors)
    for name, expected in tensors.items():
        found = bundle[name]
        assert name in bundle
        assert bundle.shapes[name] == (found.shape, found.dtype)
        if expected.dtype == np.uint16:
            assert not (found.view("<u4") & 0xFFFF).any()
            found = bits(found)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()


def test_a_name_that_is_not_there_is_a_key_error():
    bundle = TensorBundle(FOLDER / "kinds")
    assert "model/wte" not in bundle
    with pytest.raises(KeyError, match="model/wte"):
        bundle["model/wte"]
    assert bundle.get("") is None  # the header is no tensor


def test_only_the_tensor_asked_for_is_in_memory(tmp_path):
    MiB = 2**20
    writer.write_bundle(tmp_path / "a", {name: np.ones(MiB, np.float32) for name in "abc"} | {"d": np.ones(9, "u2")})
    tracemalloc.start()
    try:
        bundle = TensorBundle(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < MiB / 8  # the index alone
        assert bundle["b"].sum() == MiB
        assert tracemalloc.get_traced_memory()[1] < 4.1 * MiB
    finally:
        tracemalloc.stop()


# ---- files that are not there, or not whole


@pytest.fixture
def gpt2(tmp_path):
    """The path of a copy to be damaged."""
    return shutil.copytree(FOLDER / "gpt2", tmp_path / "124M") / "model.ckpt"


def test_no_index(gpt2):
    gpt2.with_name("model.ckpt.index").unlink()
    refused(gpt2, "No such file", "hparams.json", f"model.ckpt.{ONE}")
    refused(gpt2.parent / "nowhere" / "model.ckpt", "No such file", "no folder")
    gpt2.with_name("model.ckpt.index").mkdir()
    refused(gpt2, "Is a directory")


def test_no_data(gpt2):
    gpt2.with_name(f"model.ckpt.{ONE}").unlink()
    bundle = TensorBundle(gpt2)  # the index is whole, and shapes need nothing else
    assert bundle.shapes["model/wpe"] == ((8, 8), np.float32)
    with pytest.raises(CheckpointError) as caught:
        bundle["model/wpe"]
    for word in (f"{gpt2}.{ONE}", "No such file", "tensor 'model/wpe'", "model.ckpt.index"):
        assert word in str(caught.value)


def test_data_cut_short(gpt2):
    path = gpt2.with_name(f"model.ckpt.{ONE}")
    path.write_bytes(path.read_bytes()[:-1])
    bundle = TensorBundle(gpt2)
    assert bundle["model/h0/attn/c_attn/b"].any()
    with pytest.raises(CheckpointError, match=r"tensor .model/wte.*bytes 7296 to 8896: found a file of 8895"):
        bundle["model/wte"]


def test_damaged_data_names_the_tensor(gpt2):
    path = gpt2.with_name(f"model.ckpt.{ONE}")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    bundle = TensorBundle(gpt2)
    for name in bundle:
        if name != "model/wte":
            assert np.array_equal(bundle[name], value(name, bundle.shapes[name][0]))
    with pytest.raises(CheckpointError, match=r"tensor 'model/wte'.*expected checksum 0x[0-9a-f]{8}, found"):
        bundle["model/wte"]


def test_one_flipped_bit_anywhere_in_the_index_is_noticed(gpt2):
    path = gpt2.with_name("model.ckpt.index")
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        refused(gpt2)


@pytest.mark.parametrize("length", [0, 1, 47, 48, 500, 918])
def test_an_index_cut_short(length, gpt2):
    path = gpt2.with_name("model.ckpt.index")
    path.write_bytes(path.read_bytes()[:length])
    refused(gpt2, f"found {length}" if length < 48 else "cut short")


def test_an_absurdly_large_index_is_not_read_to_its_end(gpt2):
    with open(f"{gpt2}.index", "r+b") as file:
        file.truncate(10 * MAX_INDEX)
    tracemalloc.start()
    try:
        refused(gpt2, f"at most {MAX_INDEX} bytes")
        assert tracemalloc.get_traced_memory()[1] < 1.1 * MAX_INDEX
    finally:
        tracemalloc.stop()


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(CheckpointError, match=r"google-crc32c.*pip install 'tinygrad-lm\[weights\]'") as caught:
        TensorBundle(FOLDER / "kinds")
    assert "kinds" not in str(caught.value)  # the file is not to blame


# ---- tables that were sealed, and are wrong all the same

PAIRS = [(b"", writer.header(1)), *((name, writer.entry(1, (), 0, 0, 4, 0)) for name in (b"a", b"b", b"c"))]
BODIES, KEYS = writer.blocks(PAIRS, block_size=1)  # a block for each pair
PIECE = writer.piece(b"", *PAIRS[0])
NO_RESTARTS = bytes(4)


def with_footer(change):
    content = writer.table(PAIRS)
    return content[:-48] + change(content[-48:-8]) + content[-8:]


def with_first_block(pieces, restarts=NO_RESTARTS):
    return writer.assemble([pieces + restarts], [b"z"])


def sealed_with(compression):
    body = writer.body(PAIRS)
    return writer.table(PAIRS).replace(writer.sealed(body), writer.sealed(body, compression))


LONG = b"k" * 1000
TWICE = writer.varint(0) + writer.varint(len(BODIES[0]))
TABLES = {
    "magic": (writer.assemble(BODIES, KEYS, magic=writer.MAGIC + 1), "0xdb4775248b80fb58"),
    "snappy": (sealed_with(1), "snappy"),
    "compression": (sealed_with(7), "of compression 7"),
    "swapped blocks": (
        writer.assemble([BODIES[0], BODIES[2], BODIES[1], BODIES[3]], KEYS),
        "do not match the index block",
    ),
    "block too low": (writer.assemble([*BODIES[:3], BODIES[1]], KEYS), "do not match the index block"),
    "block twice": (writer.assemble([*BODIES, BODIES[3]], [*KEYS, b"e"]), "do not match the index block"),
    "keys above": (writer.assemble(BODIES[:2], [b"", b"A"]), "do not match the index block"),
    "keys below": (writer.assemble(BODIES[:2], [b"a", b"b"]), "do not match the index block"),
    "empty block": (writer.assemble([*BODIES, writer.body([])], [*KEYS, b"e"]), "do not match the index block"),
    "block left out": (writer.assemble(BODIES, KEYS, index=writer.body([])), "expected a block at byte 0"),
    "overlapping": (
        writer.assemble(BODIES[:1], KEYS[:1], index=writer.body([(b"", TWICE), (b"a", TWICE)])),
        "at byte 22",
    ),
    "gap": (b"\0" + writer.table(PAIRS), "block"),
    "padding": (with_footer(lambda f: f[:-1] + b"\1"), "expected zeros"),
    "before the footer": (writer.table(PAIRS)[:-48] + b"\0" + writer.table(PAIRS)[-48:], "where the footer begins"),
    "handle": (writer.assemble([], [], index=writer.body([(b"z", b"\0\0\0")])), "found 1 more bytes"),
    "no handle": (writer.assemble([], [], index=writer.body([(b"z", b"\0")])), "expected 1 more bytes"),
    "far block": (
        with_footer(lambda f: (writer.varint(0) + writer.varint(2**64 - 1) * 2).ljust(40, b"\0")),
        "end before",
    ),
    "long number": (with_footer(lambda f: (b"\x80" * 9 + b"\2").ljust(40, b"\0")), "at most 64 bits"),
    "longer number": (with_footer(lambda f: (b"\x80" * 10).ljust(40, b"\0")), "at most 64 bits"),
    "restarts": (with_first_block(PIECE, writer.fixed32(2**32 - 1)), "restarts"),
    "no restarts": (writer.assemble([b""], [b"z"]), "restarts"),
    "shared": (with_first_block(b"\1" + PIECE[1:]), "shares at most 0 bytes, found 1"),
    "twice": (with_first_block(PIECE * 2), "expected a key after b''"),
    "descending": (writer.table([PAIRS[0], PAIRS[2], PAIRS[1]]), "expected a key after b'b', found b'a'"),
    "cut pair": (with_first_block(PIECE[:-1]), "more bytes"),
    "cut key": (with_first_block(b"\0\5\1ab"), "expected 5 more bytes"),
    "key bomb": (writer.table([PAIRS[0], *((LONG + b"%03d" % i, b"") for i in range(300))], restart=999), "16 times"),
    "nothing": (writer.assemble([], []), "header"),
    "no header": (writer.table(PAIRS[1:]), "header under an empty name"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_wrong(case, tmp_path):
    content, words = TABLES[case]
    (tmp_path / "a.index").write_bytes(content)
    refused(tmp_path / "a", words)


def test_a_metaindex_that_is_not_empty(tmp_path):
    body, empty = writer.body(PAIRS), writer.body([])
    full = writer.body([(b"filter", b"")])
    at = len(body) + 5
    index = writer.body([(b"z", writer.varint(0) + writer.varint(len(body)))])
    handles = [(at, len(full)), (at + len(full) + 5, len(index))]
    footer = b"".join(writer.varint(n) for handle in handles for n in handle).ljust(40, b"\0")
    content = writer.sealed(body) + writer.sealed(full) + writer.sealed(index) + footer + writer.table(PAIRS)[-8:]
    assert empty != full
    (tmp_path / "a.index").write_bytes(content)
    refused(tmp_path / "a", "empty metaindex")


HEADERS = {
    "no data files": (writer.header(0), "num_shards: expected 1 or more; found 0"),
    "fewer": (writer.header(-1), "num_shards: expected 1 or more; found -1"),
    "big endian": (writer.header(1, endianness=1), "big-endian"),
    "newer": (writer.header(1, version=writer.field(1, 9) + writer.field(2, 2)), "version 1 at most; found 2"),
    "unknown field": (writer.header(1) + writer.field(9, 1), "found number 9, type 0"),
    "twice": (writer.header(1) * 2, "num_shards: expected one number; found [1, 1]"),
    "cut": (writer.header(1)[:-1], "header: expected"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_are_wrong(case, tmp_path):
    content, words = HEADERS[case]
    (tmp_path / "a.index").write_bytes(writer.table([(b"", content)]))
    refused(tmp_path / "a", words)


def entry(dtype=1, shape=(2, 3), shard=0, offset=0, size=24, crc32c=0, more=b""):
    return writer.entry(dtype, shape, shard, offset, size, crc32c, more)


ENTRIES = {
    "no dtype": (entry(dtype=0), "dtype: expected float16, bfloat16, float32, float64, int32, int64; found 0"),
    "dtype below": (entry(dtype=-1), "TensorFlow's number -1"),
    "unknown dtype": (entry(dtype=99), "found 99 (TensorFlow's number 99)"),
    "int8": (entry(dtype=6), "found int8"),
    "unknown size": (entry(shape=(-1, 3)), "no unknown sizes; found (-1, 3)"),
    "negative twice": (entry(shape=(-2, -3)), "no unknown sizes"),
    "overflow": (entry(shape=(2**32, 2**32), size=0), "64 bits"),
    "overflow of nothing": (entry(shape=(0, 2**32, 2**32), size=0), "64 bits"),
    "axes": (entry(shape=(1,) * 65, size=4), "64 at most, as in NumPy; found 65"),
    "unknown rank": (entry(more=writer.field(2, writer.field(3, 1))), "found number 3, type 0"),
    "shard": (entry(shard=1), "shard_id: expected 0 to 0; found 1"),
    "shard below": (entry(shard=-1), "shard_id: expected 0 to 0; found -1"),
    "offset": (entry(offset=-1), "offset: expected 0 or more; found -1"),
    "size": (entry(size=23), "size: expected 24 bytes for float32 of shape (2, 3); found 23"),
    "size below": (entry(size=-24), "found -24"),
    "slices": (entry(more=writer.field(7, b"")), "partitioned"),
    "dtype twice": (entry(more=writer.field(1, 1)), "dtype: expected one number; found [1, 1]"),
    "field": (entry(more=writer.field(8, 1)), "found number 8, type 0"),
    "kind": (entry(more=writer.varint(1 << 3 | 1) + bytes(8)), "found number 1, type 1"),
    "cut": (entry()[:-1], "expected 4 more bytes"),
    "far": (entry(more=writer.varint(2 << 3 | 2) + writer.varint(2**64 - 1)), "more bytes"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_entries_that_are_wrong(case, tmp_path):
    content, words = ENTRIES[case]
    pairs = [(b"", writer.header(1)), (b"good", entry()), (b"wrong", content)]
    (tmp_path / "a.index").write_bytes(writer.table(pairs))
    assert "'good'" not in refused(tmp_path / "a", "tensor 'wrong'", words)


def test_a_name_that_is_no_text(tmp_path):
    (tmp_path / "a.index").write_bytes(writer.table([(b"", writer.header(1)), (b"a\xff", entry())]))
    refused(tmp_path / "a", r"a\\xff", "UTF-8")


def test_many_problems_are_counted(tmp_path):
    pairs = [(b"", writer.header(1)), *((b"%02d" % i, entry(dtype=7)) for i in range(30))]
    (tmp_path / "a.index").write_bytes(writer.table(pairs))
    assert "'10'" not in refused(tmp_path / "a", "'00'", "'09'", "and 20 more of 30 tensors")


@pytest.mark.parametrize("offset", [1, 2**40, 2**63 - 1])
def test_a_place_outside_the_data(offset, tmp_path):
    """Asked for far more than there is, no more than there is is allocated."""
    (tmp_path / f"a.{ONE}").write_bytes(bytes(24))
    big = entry(shape=(2**40,), size=2**42)
    none = entry(shape=(0,), size=0, offset=100, crc32c=0xA282EAD8)  # the checksum of nothing
    pairs = [(b"", writer.header(1)), (b"big", big), (b"far", entry(offset=offset)), (b"none", none)]
    (tmp_path / "a.index").write_bytes(writer.table(pairs))
    bundle = TensorBundle(tmp_path / "a")
    for name in bundle:
        with pytest.raises(CheckpointError, match=f"tensor '{name}'"):
            bundle[name]
