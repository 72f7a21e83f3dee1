"""How weights are updated, `from tinygrad_lm import optim`. The page has AdamW and clipping."""

from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.optim.muon import Muon
from tinygrad_lm.optim.schedule import warmup_cosine, warmup_stable_decay

__all__ = ["AdamW", "Muon", "clip_gradients", "warmup_cosine", "warmup_stable_decay"]
