"""What the kernels are looked at on: inputs of the sizes that a step of GPT-2 124M has, or of tiny ones.

N tokens in a batch, T of a text, C channels, V vocabulary. A Case says also how many bytes the kernel must move at
least, or how many floating-point operations its products take, forward and backward.
"""

from dataclasses import dataclass, field

import numpy as np

from gpu.place import DTYPES

T, C, V = 1024, 768, 50304


@dataclass
class Case:
    name: str
    inputs: tuple
    options: dict = field(default_factory=dict)
    moved: tuple = (0, 0)  # entries read or written, forward and backward
    flops: tuple = (0, 0)
    size: int = 0  # of a head of attention
    dtypes: tuple = ("float32", "bfloat16")

    @property
    def label(self):
        if self.name != "attention":
            return self.name
        return f"attention, heads of {self.size}" + " with dropout" * bool(self.options)


def rule_cases(place, N=65536):
    """A case for each operation with a CUDA implementation. Inputs are functions of a dtype, which draw them."""
    t, c, v, n = (8, 32, 72, 16) if place.tiny else (T, C, V, N)
    normal = lambda seed, *shape: lambda dtype: place.normal(seed, shape, dtype)
    ids = lambda seed, high, size: lambda dtype: place.integers(seed, high, size)
    for seed, name in enumerate(("relu", "relu_squared", "silu", "gelu", "gelu_tanh")):
        size = 4 * n * c
        yield Case(name, (normal(seed, n, 4 * c),), moved=(2 * size, 3 * size))
    size = n * c
    yield Case("add", (normal(8, n, c), normal(9, n, c)), moved=(3 * size, 0))
    yield Case("multiply", (normal(29, n, c), normal(30, n, c)), moved=(3 * size, 5 * size))
    yield Case("layer_norm", (normal(10, n, c), normal(11, c), normal(12, c)), moved=(2 * size, 3 * size))
    yield Case("rms_norm", (normal(13, n, c), normal(14, c)), moved=(2 * size, 3 * size))
    drawn = {"p": 0.2, "key": (0, "check", 1, 0)}
    yield Case("dropout", (normal(15, n // t, t, c),), drawn, moved=(2 * size, 2 * size))
    heads = (n // t, t, c // 16 if place.tiny else c // 64, 16 if place.tiny else 64)
    yield Case("rotary", (normal(16, *heads),), moved=(2 * size, 2 * size))
    yield Case("embedding", (normal(17, v, c), ids(18, v, n)), moved=(2 * size, size + v * c))
    few = n // 4
    for name in ("cross_entropy", "log_probability"):
        yield Case(name, (normal(19, few, v), ids(20, v, few)), moved=(few * v, 2 * few * v))
    x, wide, flops = normal(21, n, c), normal(22, c, 4 * c), 8 * n * c * c
    yield Case("linear", (x, wide, normal(23, 4 * c)), flops=(flops, 2 * flops))
    yield Case("matmul", (x, wide), flops=(flops, 2 * flops))
    of_class, w = 2 * few * c * v, lambda dtype: (place.normal(25, (c, v)) * np.float32(0.02)).astype(DTYPES[dtype])
    # A network's weights: logits of ±100 would have no digits left in bfloat16.
    for name, backward in (("linear_cross_entropy", 2), ("linear_log_probability", 3)):  # which computes logits twice
        yield Case(name, (normal(24, few, c), w, ids(20, v, few)), flops=(of_class, backward * of_class))
    # Two products forward and five backward, of which half of each is seen.
    seen = 2 * n * t * c
    for size in (16, 64) if place.tiny else (64,):  # 64 have instructions of their own on Hopper
        shape = (2, 136, 2, size) if place.tiny else heads
        inputs = tuple(normal(seed, *shape) for seed in (26, 27, 28))
        for options in ({}, {"p": 0.2, "key": (0, "check", 2, 0)}):
            yield Case("attention", inputs, options, flops=(seen, 2.5 * seen), size=size, dtypes=("bfloat16",))
