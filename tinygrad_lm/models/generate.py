"""Generation: draw the next token from the model's prediction, append it, repeat."""

import numpy as np

from tinygrad_lm.backend import array_module, random, to_device
from tinygrad_lm.engine.graph import no_grad
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError


class Past:
    """One block's keys and values of the positions so far, so that a new position need not compute them again."""

    def __init__(self, size):
        self.length, self.size, self.k, self.v = 0, size, None, None

    def extend(self, k, v):
        """Append keys and values, (B, T, G, D) each; return all so far, (B, S, G, D)."""
        if self.k is None:
            B, _, G, D = k.shape
            self.k, self.v = (array_module(x.data).zeros((B, self.size, G, D), x.dtype) for x in (k, v))
        start, self.length = self.length, self.length + k.shape[1]
        self.k[:, start : self.length], self.v[:, start : self.length] = k.data, v.data
        return Tensor.of(self.k[:, : self.length]), Tensor.of(self.v[:, : self.length])


def generate(model, prompt, n, temperature=1.0, top_k=0, top_p=1.0, seed=0):
    """Yield n token ids that continue the prompt (at least one id).

    temperature  divides the logits: below 1 likely tokens get likelier; 0 always takes the likeliest
    top_k        draw among the k likeliest only; 0: among all
    top_p        draw among the likeliest that together have this probability (Holtzman et al. 2020, "nucleus")
    seed         the same seed draws the same text

    Where the text outgrows the model's context, the model goes on from the newer half of it.
    """
    if not (n >= 0 and temperature >= 0 and top_k >= 0 and 0 < top_p <= 1):
        raise ConfigError(
            f"generate: expected n >= 0, temperature >= 0, top_k >= 0 and 0 < top_p <= 1, "
            f"found n={n}, temperature={temperature}, top_k={top_k}, top_p={top_p}"
        )
    tokens = list(prompt)
    if not tokens:
        raise ConfigError("generate: the prompt is empty; there must be a token to continue from")
    size, device = model.config.block_size, model.parameters.device
    new = tokens[-size:]
    past = fresh(model)
    for i in range(n):
        if past[0].length + len(new) > size:
            past, new = fresh(model), tokens[-(size // 2 or 1) :]
        with no_grad():
            logits = model(to_device(np.array([new]), device), past=past).numpy()[0, -1]
        token = draw(logits, temperature, top_k, top_p, random(seed, "sample", i).random())
        tokens.append(token)
        new = [token]
        yield token


def fresh(model):
    return [Past(model.config.block_size) for _ in model.h]


def draw(logits, temperature, top_k, top_p, u):
    """The token at which the cumulative probability passes u, a number in [0, 1)."""
    if temperature == 0:
        return int(logits.argmax())
    z = logits.astype(np.float64) / temperature
    tokens = np.arange(len(z))
    if top_k or top_p < 1:
        tokens = np.argsort(-z, kind="stable")[: top_k or None]  # likeliest first
    p = np.exp(z[tokens] - z.max())
    if top_p < 1:
        p = p[: int(np.searchsorted(p.cumsum(), top_p * p.sum())) + 1]
    cumulative = p.cumsum()
    return int(tokens[min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(p) - 1)])
