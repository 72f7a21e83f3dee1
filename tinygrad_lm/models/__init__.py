"""Whole models, `from tinygrad_lm import models`. The page has GPT-2, in small."""

from tinygrad_lm.models.config import PRESETS, GPTConfig
from tinygrad_lm.models.gpt import GPT

__all__ = ["GPT", "PRESETS", "GPTConfig"]
