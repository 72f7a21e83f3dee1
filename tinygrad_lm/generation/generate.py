"""Generation: draw the next token from the model's prediction, append it, repeat."""

from typing import NamedTuple

import numpy as np

from tinygrad_lm.backend import random, to_device
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.generation.sampling import Sampler
from tinygrad_lm.nn.context import Context


class Drawn(NamedTuple):
    """A token that was drawn for prompt number `row`; logprob: log P of it by the model, None if not asked for."""

    row: int
    token: int
    logprob: float | None


def generate(model, prompt, n, seed=0, **sampling):
    """Yield n token ids that continue the prompt (at least one id). Options: see generate_batch and Sampler.

    The same seed draws the same text. Where the text outgrows the model's context, it continues from the newer
    half of it.
    """
    return (drawn.token for drawn in generate_batch(model, [prompt], n, seed, **sampling))


def generate_batch(model, prompts, n, seed=0, stop=lambda tokens: False, logprobs=False, vocab_size=None, **sampling):
    """Yield Drawn tokens, up to n for each of several prompts; they may have different lengths, or be equal.

    The model computes them together, since most of the time goes into fetching its weights from memory. What is drawn
    for a prompt depends on its place among them, up to rounding on nothing else. stop: a function of the ids that were
    drawn for a prompt; where it is true the text ends. vocab_size: no id from there on is drawn; published models pad
    their tables.
    """
    if n < 0:
        raise ConfigError(f"generate: n must be at least 0, found {n}")
    if not all(len(prompt) for prompt in prompts):
        raise ConfigError("generate: the prompt is empty; there must be a token to continue from")
    random(seed, "sample")  # refuses a wrong seed now, not at the first token
    texts = [[int(token) for token in prompt] for prompt in prompts]
    return write(model, texts, n, seed, stop, logprobs, vocab_size, Sampler(**sampling))


def write(model, texts, n, seed, stop, logprobs, vocab_size, sampler):
    """What `generate_batch` describes."""
    size = model.config.block_size
    lengths = [len(text) for text in texts]
    caches = read_prompts(model, [text[-size:] for text in texts]) if n else []
    active = list(range(len(texts)))
    for i in range(n):
        for row in active:
            if caches[row].length == size:
                caches[row] = filled_cache(model, texts[row][-(size // 2 or 1) :])
        logits = predict(model, [texts[row][-1] for row in active], [caches[row] for row in active])
        for row, z in zip(active, logits, strict=True):
            token = sampler.draw(z[:vocab_size], texts[row], random(seed, "sample", i, row).random())
            texts[row].append(token)
            yield Drawn(row, token, logprob(z, token) if logprobs else None)
        active = [row for row in active if not stop(texts[row][lengths[row] :])]
        if not active:
            return


def read_prompts(model, texts):
    """A cache for each text; equal texts are read once."""
    caches = {text: filled_cache(model, text) for text in dict.fromkeys(map(tuple, texts))}
    return [caches[tuple(text)].copy() for text in texts]


def filled_cache(model, text):
    """The cache of all tokens of a text but its last, which is still to be fed."""
    cache = Cache(model.config.block_size)
    if len(text) > 1:
        with no_grad():
            model.features(to_device(np.array([text[:-1]]), model.flat.device), Context(cache=(cache,)))
    return cache


def predict(model, tokens, caches):
    """The logits of what follows one more token in each text, (B, V)."""
    with no_grad():
        logits = model(to_device(np.array(tokens)[:, None], model.flat.device), Context(cache=tuple(caches)))
        return logits.numpy()[:, -1]


def logprob(logits, token):
    z = logits.astype(np.float64) - logits.max()
    return float(z[token] - np.log(np.exp(z).sum()))


def until(pieces, stops):
    """The text of some pieces, as soon as it comes, up to the first of the strings `stops`.

    What may turn out to be the beginning of one is held back. No piece after it is asked for, so no token is drawn.
    """
    text = ""
    for piece in pieces:
        text += piece
        if found := [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]:
            if start := min(found)[1]:  # of the one that was complete first
                yield text[:start]
            return
        begun = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        sure = len(text) - max(begun, default=0)
        if sure:
            yield text[:sure]
        text = text[sure:]
    if text:
        yield text
