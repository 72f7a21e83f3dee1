"""LoRA: train small matrices beside large ones that stay as they are. Functions that change a model.

Hu et al. 2021, "LoRA: Low-rank adaptation of large language models".
"""

from typing import Any

from tinygrad_lm import ops
from tinygrad_lm.backend import random, to_device
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.nn.layers import Linear
from tinygrad_lm.nn.module import Module, Parameter, freeze

ALPHA = 32  # what adapters of any rank are scaled by (table 11, for GPT-2)


class LoRALinear(Linear):
    """y = x w + b + α/r (x A) B with A (in, r) and B (r, out), equation 3; B starts at zero, so y is as before."""

    def __init__(self, linear: Linear, rank: int):
        self.weight, self.bias = linear.weight, linear.bias
        n_in, n_out = linear.weight.shape
        self.lora_a = Parameter(n_in, rank, std=n_in**-0.5)
        self.lora_b = Parameter(rank, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + ops.linear(self.scale * ops.linear(x, self.lora_a), self.lora_b)

    @property
    def scale(self) -> float:
        """α/r."""
        return ALPHA / len(self.lora_b)


def lora(model: Module, rank: int, seed: int = 0) -> Any:
    """Give the Linear layers of a model's blocks, model.h, adapters, and freeze all but these. Returns the model."""
    for _, module in model.named_modules():
        for key, part in vars(module).items():
            if type(part) is Linear and part.name.startswith("h."):
                adapted = LoRALinear(part, rank)
                adapted.name, adapted.ready = part.name, True
                a = adapted.lora_a
                _, std = a.initial
                noise = random(seed, f"init/{part.name}.lora_a").standard_normal(a.shape)
                a.data = to_device((std * noise).astype(part.weight.dtype), part.weight.device)
                adapted.lora_b.data = to_device(adapted.lora_b.data.astype(part.weight.dtype), part.weight.device)
                setattr(module, key, adapted)
    model.lay_out()
    return freeze(model, *(name for name in model.flat if ".lora_" not in name))


def merge(model: Module) -> Any:
    """Fold the adapters of a model into its weights (section 4.1: at no cost), and take them out. Returns the model."""
    for _, module in model.named_modules():
        for key, part in vars(module).items():
            if isinstance(part, LoRALinear):
                n_in, n_out = part.weight.shape
                plain = Linear(n_in, n_out, bias=part.bias is not None)
                plain.weight, plain.bias = part.weight, part.bias
                plain.weight.data = part.weight.data + part.scale * (part.lora_a.data @ part.lora_b.data)
                setattr(module, key, plain)
    return model.lay_out()
