"""Text out of a model: `from tinygrad_lm.generation import generate`."""

from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.generation.generate import generate, generate_batch
from tinygrad_lm.generation.sampling import Sampler

__all__ = ["Cache", "Sampler", "generate", "generate_batch"]
