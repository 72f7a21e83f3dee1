"""Arithmetic in half precision on a GPU: CuPy computes an entry in float32 and rounds it, as the policy would."""

from tinygrad_lm.ops.elementwise import divide, multiply, negate, subtract

for op in (subtract, multiply, divide, negate):
    op.on("cuda", "bfloat16", "float16")(op.rule)
