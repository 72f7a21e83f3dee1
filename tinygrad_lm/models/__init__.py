"""Whole models: `from tinygrad_lm import models`."""

from tinygrad_lm.models.config import PRESETS, GPTConfig
from tinygrad_lm.models.gpt import GPT

__all__ = ["GPT", "PRESETS", "GPTConfig"]
