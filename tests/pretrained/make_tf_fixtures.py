"""Makes tests/pretrained/fixtures: checkpoints written by TensorFlow itself (tensorflow-cpu 2.21.0 made those here).

    python tests/pretrained/make_tf_fixtures.py

gpt2    the names and shapes of OpenAI's release, from v1's Saver (with `checkpoint` and hparams.json)
kinds   all dtypes that are read; 0-d, empty and many axes
merged  kinds and one tensor more, as two data files
many    so many long names that the index has several blocks; stored compressed, for a block is 256 KiB
others  dtypes that are not read
sliced  a partitioned variable
"""

import gzip
import json
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "fixtures"
HPARAMS = {"n_vocab": 50, "n_ctx": 8, "n_embd": 8, "n_head": 2, "n_layer": 2}
KINDS = {
    "float16": (3, 2),
    "bfloat16": (2, 3),
    "float32": (4, 1, 2),
    "float64": (5,),
    "int32": (2, 2),
    "int64": (7,),
    "0-d/float32": (),
    "0-d/int64": (),
    "empty/float32": (0,),
    "empty/bfloat16": (3, 0, 2),
    "axes/float16": (1, 2, 1, 2, 1, 2, 1, 2),
    "ünïcode/float32": (2,),
}
MANY = [f"{i:03d}" + "/a_long_name" * 35 for i in range(800)]


def value(name, shape, dtype="float32"):
    """What a tensor of this name holds: multiples of 1/8 that are exact in every dtype, and no two tensors alike."""
    x = (zlib.crc32(name.encode()) % 1000 + 37 * np.arange(np.prod(shape, dtype=int))) % 255 - 127
    return (x if dtype.startswith("int") else x / 8).reshape(shape).astype("float32" if dtype == "bfloat16" else dtype)


def gpt2_shapes(n_vocab, n_ctx, n_embd, n_head, n_layer):
    """{name: shape} of OpenAI's GPT-2; a convolution of width 1 stands for each dense layer."""
    C = n_embd
    shapes = {"wte": (n_vocab, C), "wpe": (n_ctx, C), "ln_f/g": (C,), "ln_f/b": (C,)}
    for i in range(n_layer):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h{i}/{norm}/g": (C,), f"h{i}/{norm}/b": (C,)}
        for layer, (n, m) in {"attn/c_attn": (C, 3 * C), "attn/c_proj": (C, C), "mlp/c_fc": (C, 4 * C),
                              "mlp/c_proj": (4 * C, C)}.items():  # fmt: skip
            shapes |= {f"h{i}/{layer}/w": (1, n, m), f"h{i}/{layer}/b": (m,)}
    return {f"model/{name}": shape for name, shape in shapes.items()}


def main():
    import tensorflow as tf

    def tensor(name, shape):
        dtype = name.split("/")[-1]
        return tf.cast(tf.constant(value(name, shape, dtype)), dtype)

    def save(prefix, tensors, slices=None):
        names, slices = list(tensors), slices or [""] * len(tensors)
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=slices, tensors=[*tensors.values()])

    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "gpt2").mkdir(parents=True)
    (FOLDER / "gpt2" / "hparams.json").write_text(json.dumps(HPARAMS))
    kinds = {name: tensor(name, shape) for name, shape in KINDS.items()}
    save(FOLDER / "kinds", kinds)
    save(FOLDER / "others", {"good": tf.zeros(2), "flags": tf.constant([True]), "words": tf.constant(["a", "bc"])})
    save(FOLDER / "sliced", {"table": tf.zeros((2, 3))}, ["4 3 0,2:-"])

    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{folder}/a", f"{folder}/b"]
        save(parts[0], kinds)
        save(parts[1], {"second/float32": tensor("second/float32", (3, 3))})
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(FOLDER / "merged"))
        save(f"{folder}/many", {name: tf.fill((1,), tf.cast(i % 4, "float32")) for i, name in enumerate(MANY)})
        for path in Path(folder).glob("many*"):
            (FOLDER / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        shapes = gpt2_shapes(**HPARAMS).items()
        variables = [tf.compat.v1.Variable(value(name, shape), name=name) for name, shape in shapes]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, save_relative_paths=True)
        saver.save(session, str(FOLDER / "gpt2" / "model.ckpt"), write_meta_graph=False)


if __name__ == "__main__":
    main()
