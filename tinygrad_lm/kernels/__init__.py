"""Kernels: faster stand-ins for rules of ops/, with the same contract. Importing this registers each for its device."""

from tinygrad_lm.kernels import numpy_attention  # noqa: F401
