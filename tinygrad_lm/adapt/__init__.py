"""Functions that change a model: adapters, more tokens, recomputation, the weights of another one."""

from tinygrad_lm.adapt.grow import grow
from tinygrad_lm.adapt.inherit import inherit
from tinygrad_lm.adapt.lora import lora, merge
from tinygrad_lm.adapt.recomputed import recomputed

__all__ = ["grow", "inherit", "lora", "merge", "recomputed"]
