"""What a GPT does for one new token each of M texts, as a list of pieces of work (numba/steps.py).

C channels, H query heads and G key heads of D channels, L blocks.
"""

import functools

import numpy as np

from tinygrad_lm.kernels.bfloat16.few_rows import PALETTES, multiply
from tinygrad_lm.kernels.bfloat16.instructions import round_row
from tinygrad_lm.kernels.bfloat16.linear import kept_columns
from tinygrad_lm.kernels.bfloat16.tiles import NO_BIAS
from tinygrad_lm.kernels.numba.activation import gelu_tanh_forward, relu_squared_forward, silu_forward
from tinygrad_lm.kernels.numba.attention_of_one import attend
from tinygrad_lm.kernels.numba.compile import f4
from tinygrad_lm.kernels.numba.elementwise import add_all
from tinygrad_lm.kernels.numba.halves import NONE
from tinygrad_lm.kernels.numba.memory import floats
from tinygrad_lm.kernels.numba.normalize import NO_ROWS, few, layer_norm_forward, rms_norm_forward
from tinygrad_lm.kernels.numba.rotary import turn
from tinygrad_lm.kernels.numba.steps import Steps
from tinygrad_lm.kernels.numba.together import LEAST, shared
from tinygrad_lm.nn import MLP, CausalSelfAttention, Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinygrad_lm.ops.rotary import angles

NAMES = {"tinygrad_lm.models.gpt.GPT", "tinygrad_lm.models.gpt.Block"}  # of types that kernels may not import
TYPES = {MLP, CausalSelfAttention, Dropout, Embedding, LayerNorm, Linear, RMSNorm}
ACTIVATIONS = {"gelu_tanh": gelu_tanh_forward, "relu_squared": relu_squared_forward, "silu": silu_forward}
WIDTH = 32


def covers(model):
    """Whether a plan can be made of a model, whose modules and parameters must be those that the model began with."""
    for _, module in model.named_modules():
        kind = type(module)
        if (kind not in TYPES and f"{kind.__module__}.{kind.__qualname__}" not in NAMES) or "forward" in vars(module):
            return False
    if model.flat.data.dtype != f4 or any(p.flat is not model.flat for p in model.parameters()):
        return False
    widths = {n for block in model.h for p in block.parameters() if p.ndim == 2 for n in p.shape}
    return (
        not any(n % WIDTH for n in widths)
        and all(block.mlp.activation.name in ACTIVATIONS for block in model.h)
        and all(block.attn.rotary == model.h[0].attn.rotary for block in model.h)
    )


class Plan:
    """For one new token each of M texts: called with tokens, their positions and the places of the caches."""

    def __init__(self, model, M):
        self.model, self.M, self.steps, self.arrays = model, M, Steps(), {}
        self.x, self.texts = np.empty((M, model.config.n_embd), f4), np.zeros((len(model.h), M, 8), np.int64)
        first = model.h[0].attn
        self.rotary, half = first.rotary, first.head_size // 2
        self.cos, self.sin = np.empty((2, M, half if self.rotary else 0), f4)
        for block, texts in zip(model.h, self.texts, strict=True):
            self.add(self.attention(block.attn, self.norm(block.ln_1, self.x, "normalised"), texts))
            self.add(self.mlp(block.mlp, self.norm(block.ln_2, self.x, "normalised")))
        last, head = self.rounded(self.norm(model.ln_f, self.x, "normalised")), model.lm_head
        w, b = (model.wte.weight.data.T, None) if head is None else (head.weight.data, head.bias)
        self.logits = self.product(w, b, last, "logits")[:, : model.config.vocab_size]
        self.steps.done()

    def __call__(self, tokens, positions, places):
        """The logits (M, 1, V) of tokens (M,), but for the softcap. places: of each block and text where its keys and
        values lie, (L, M, 6), as `attend` describes it."""
        wte, wpe = self.model.wte, self.model.wpe
        self.x[...] = wte.weight.data[tokens]
        if wpe is not None:
            self.x += wpe.weight.data[positions]
        if self.rotary is not None:
            cos, sin = angles(np, int(positions.max()) + 1, 2 * self.cos.shape[1], start=0, dtype=f4, **self.rotary)
            self.cos[...], self.sin[...] = cos[positions, 0], sin[positions, 0]
        self.texts[:, :, :6], self.texts[:, :, 7] = places, positions + 1
        self.steps()
        return self.logits[:, None].copy()

    def array(self, name, shape, kind=f4):
        """Memory for what has this name and this shape in every block: it stays in the cache."""
        return self.arrays.setdefault((name, shape), np.empty(shape, kind))

    def norm(self, module, x, name):
        """The norm of each row of x, which may be a head's."""
        C, ones = x.shape[1], functools.partial(np.ones, dtype=f4)
        y, (mean, inverse) = self.array(name, x.shape), self.array("moments", (2, len(x)))
        gain = ones(C) if module.weight is None else module.weight.data
        if type(module) is RMSNorm:
            self.steps.add(rms_norm_forward, len(x), few(x), x, gain, f4(module.eps), y, inverse, NO_ROWS)
        else:
            bias = np.zeros(C, f4) if module.bias is None else module.bias.data
            self.steps.add(layer_norm_forward, len(x), few(x), x, gain, bias, f4(module.eps), y, mean, inverse, NO_ROWS)
        return y

    def rounded(self, x):
        """x in bfloat16."""
        half = self.array("half", x.shape, np.uint16)
        self.steps.add(round_groups, x.size // WIDTH, LEAST // WIDTH, x, half)
        return half

    def linear(self, module, half, name):
        """What a Linear gives, for x in bfloat16."""
        return self.product(module.weight.data, module.bias, half, name)

    def product(self, w, b, half, name):
        """x w + b, for x in bfloat16, in blocks of 32 columns."""
        tiles, b = kept_columns(w), NO_BIAS if b is None else b.data
        y = self.array(name, (self.M, 16 * len(tiles)))
        self.steps.add(multiply(), len(tiles) // 2, 1, half, tiles, b, y, PALETTES[self.M])
        return y

    def add(self, y):
        """x = x + y."""
        self.elementwise(add_all, self.x, y, self.x)

    def elementwise(self, function, *arrays):
        self.steps.add(function, arrays[0].size, LEAST, *(x.reshape(-1) for x in arrays))

    def attention(self, attn, x, texts):
        """As CausalSelfAttention of x."""
        M, D, half = self.M, attn.head_size, self.rounded(x)
        q, k, v = (self.linear(getattr(attn, f"c_{name}"), half, name) for name in "qkv")
        self.steps.together(3)
        H, G = q.shape[1] // D, k.shape[1] // D
        if attn.q_norm and attn.k_norm:
            q, k = self.norm(attn.q_norm, q.reshape(-1, D), "qn"), self.norm(attn.k_norm, k.reshape(-1, D), "kn")
        if attn.rotary is not None:
            q, k = self.turned(q.reshape(1, M, H, D), "qt"), self.turned(k.reshape(1, M, G, D), "kt")
        y = self.array("answers", (M, H * D))
        self.steps.add(append, M, max(1, LEAST // (G * D)), k.reshape(M, G, D), v.reshape(M, G, D), texts)
        self.steps.add(attend, M * G, 1, q.reshape(M, 1, H, D), texts, G, y.reshape(M, 1, H, D))
        return self.linear(attn.c_proj, self.rounded(y), "mixed")

    def turned(self, x, name):
        """x (1, M, H, D) with positions as angles, those of the texts."""
        y = self.array(name, x.shape)
        self.steps.add(turn, self.M, max(1, LEAST // max(1, x[0, 0].size)), x, self.cos, self.sin, y)
        return y

    def mlp(self, mlp, x):
        """As MLP of x."""
        half = self.rounded(x)
        h = self.linear(mlp.c_fc, half, "h")
        gate = h
        if mlp.c_gate is not None:
            gate = self.linear(mlp.c_gate, half, "gate")
            self.steps.together(2)
        active = self.array("active", h.shape)
        self.elementwise(ACTIVATIONS[mlp.activation.name], gate, active, NONE)
        if mlp.c_gate is not None:
            self.elementwise(multiply_all, active, h, active)
        return self.linear(mlp.c_proj, self.rounded(active), "mixed")


@shared
def round_groups(start, stop, x, half):
    """Round groups of 32 numbers of x, which lie without gaps."""
    for i in range(start, stop):
        round_row(x.ctypes.data + 128 * i, half.ctypes.data + 64 * i)


@shared
def append(start, stop, k, v, texts):
    """Write the newest key and value of each text to the cache. texts: see attend."""
    _, G, D = k.shape
    for b in range(start, stop):
        keys, values, next_key, next_key_head, next_value, next_value_head, _, n = texts[b]
        for g in range(G):
            key = floats(keys + (n - 1) * next_key + g * next_key_head, D)
            value = floats(values + (n - 1) * next_value + g * next_value_head, D)
            for d in range(D):
                key[d], value[d] = k[b, g, d], v[b, g, d]


@shared
def multiply_all(start, stop, a, b, y):
    a, b, y = a[start:stop], b[start:stop], y[start:stop]
    for i in range(y.size):
        y[i] = a[i] * b[i]
