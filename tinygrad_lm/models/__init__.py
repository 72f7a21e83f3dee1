"""Whole models: `from tinygrad_lm import models`."""

from tinygrad_lm.models.config import PRESETS, GPTConfig
from tinygrad_lm.models.generate import generate, generate_batch
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.models.sampling import Sampler

__all__ = ["GPT", "PRESETS", "GPTConfig", "Sampler", "generate", "generate_batch"]
