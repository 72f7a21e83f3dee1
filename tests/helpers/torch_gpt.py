"""The same transformer once more, out of PyTorch's own parts: what it says does not depend on our derivatives.

Takes the parameters of a tinygrad_lm GPT by name, as torch tensors. B batch, T time, C channels, H heads, D head size.
"""

import math

import torch
import torch.nn.functional as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
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
        x = x + mlp(config, p, f"h.{i}.mlp.", norm(config, p, f"h.{i}.ln_2.", x))
    x = norm(config, p, "ln_f.", x)
    z = F.linear(x, p["wte.weight"]) if config.tied else linear(p, "lm_head.", x)
    return config.softcap * torch.tanh(z / config.softcap) if config.softcap else z


def mlp(config, p, name, x):
    activation, hidden = ACTIVATIONS[config.activation], linear(p, f"{name}c_fc.", x)
    y = activation(linear(p, f"{name}c_gate.", x)) * hidden if config.gated else activation(hidden)
    return linear(p, f"{name}c_proj.", y)


def attention(config, p, name, x):
    B, T, _ = x.shape
    # (B, H, T, D), as PyTorch wants it
    q, k, v = (linear(p, f"{name}c_{c}.", x).view(B, T, -1, config.head_size).transpose(1, 2) for c in "qkv")
    if config.qk_norm:
        q, k = rms_norm(config, p, f"{name}q_norm.", q), rms_norm(config, p, f"{name}k_norm.", k)
    if config.position == "rotary":
        q, k = rotate(config, q), rotate(config, k)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return linear(p, f"{name}c_proj.", y.transpose(1, 2).reshape(B, T, -1))


def rotate(config, x):
    """Entries i and i + D/2 as one complex number, turned by t · base^(−2i/D)."""
    T, half = x.shape[-2], x.shape[-1] // 2
    frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    frequency = torch.tensor([stretched(config.rope_scaling, f) for f in frequency.tolist()], dtype=torch.float64)
    angle = torch.outer(torch.arange(T, dtype=torch.float64), frequency).to(x.dtype)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], -1)


def stretched(scaling, frequency):
    """Llama 3.1's three cases, by wavelength."""
    if not scaling:
        return frequency
    factor, low, high, length = scaling
    wavelength = 2 * math.pi / frequency
    if wavelength > length / low:
        return frequency / factor
    if wavelength < length / high:
        return frequency
    smooth = (length / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


def linear(p, name, x):
    y = F.linear(x, p[name + "weight"].T, p.get(name + "bias"))
    if name + "lora_a" in p:
        a, b = p[name + "lora_a"], p[name + "lora_b"]
        y = y + x @ (a @ b) * (32 / a.shape[1])
    return y


def norm(config, p, name, x):
    if config.norm == "rms":
        return rms_norm(config, p, name, x)
    return F.layer_norm(x, x.shape[-1:], p[name + "weight"], p.get(name + "bias"), eps=config.norm_eps or 1e-5)


def rms_norm(config, p, name, x):
    return F.rms_norm(x, x.shape[-1:], p.get(name + "weight"), eps=config.norm_eps or 1e-6)


def loss(config, p, x, y):
    """Mean cross-entropy over all positions."""
    return F.cross_entropy(logits(config, p, x).flatten(0, 1), y.flatten())
