"""Functions that change a model: adapters, recomputation, the weights of another one."""

from tinygrad_lm.adapt.inherit import inherit
from tinygrad_lm.adapt.lora import lora, merge
from tinygrad_lm.adapt.recomputed import recomputed

__all__ = ["inherit", "lora", "merge", "recomputed"]
