"""The same transformer once more, out of PyTorch's own parts: what it says does not depend on our derivatives.

Takes the parameters of a tinygrad_lm GPT by name, as torch tensors. B batch, T time, C channels, H heads, D head size.
"""

import torch
import torch.nn.functional as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu_squared": lambda x: F.relu(x).square(),
    "silu": F.silu,
}


def logits(config, p, tokens):
    """p: {name: tensor}, tokens: (B, T) -> (B, T, V)."""
    x = F.embedding(tokens, p["wte.weight"])
    if config.position == "learned":
        x = x + p["wpe.weight"][: tokens.shape[1]]
    for i in range(config.n_layer):
        x = x + attention(config, p, f"h.{i}.attn.", norm(config, p, f"h.{i}.ln_1.", x))
        hidden = linear(p, f"h.{i}.mlp.c_fc.", norm(config, p, f"h.{i}.ln_2.", x))
        x = x + linear(p, f"h.{i}.mlp.c_proj.", ACTIVATIONS[config.activation](hidden))
    x = norm(config, p, "ln_f.", x)
    z = F.linear(x, p["wte.weight"]) if config.tied else linear(p, "lm_head.", x)
    return config.softcap * torch.tanh(z / config.softcap) if config.softcap else z


def attention(config, p, name, x):
    B, T, C = x.shape
    # (B, H, T, D), as PyTorch wants it
    q, k, v = (linear(p, f"{name}c_{c}.", x).view(B, T, -1, config.head_size).transpose(1, 2) for c in "qkv")
    if config.qk_norm:
        q, k = (F.rms_norm(z, z.shape[-1:], eps=1e-6) for z in (q, k))
    if config.position == "rotary":
        q, k = rotate(q), rotate(k)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return linear(p, f"{name}c_proj.", y.transpose(1, 2).reshape(B, T, C))


def rotate(x):
    """Entries i and i + D/2 as one complex number, turned by t · 10000^(−2i/D)."""
    T, half = x.shape[-2], x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(T, dtype=torch.float64), frequency).to(x.dtype)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


def linear(p, name, x):
    return F.linear(x, p[name + "weight"].T, p.get(name + "bias"))


def norm(config, p, name, x):
    if config.norm == "rms":
        return F.rms_norm(x, x.shape[-1:], eps=1e-6)
    return F.layer_norm(x, x.shape[-1:], p[name + "weight"], p.get(name + "bias"), eps=1e-5)


def loss(config, p, x, y):
    """Mean cross-entropy over all positions."""
    return F.cross_entropy(logits(config, p, x).flatten(0, 1), y.flatten())
