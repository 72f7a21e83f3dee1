"""A trained model and its tokenizer, from where they lie."""

import numpy as np

from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.run import Run


def load(where, device="cpu", dtype=np.float32):
    """(GPT, tokenizer) from the folder of a run; its best checkpoint."""
    run = Run(where)
    model = GPT(run.model_config, None, dtype, device)
    model.parameters.load(run.load("best")[1]["model"])
    return model, run.tokenizer
