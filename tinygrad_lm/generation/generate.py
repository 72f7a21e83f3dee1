"""Generation: draw the next token from the model's prediction, append it, repeat."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from tinygrad_lm.backend import Array, to_device
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.engine.replaceable import replaceable
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, DtypeError, check_ranges
from tinygrad_lm.generation.cache import Cache
from tinygrad_lm.generation.sampling import Sampler, is_whole, uniform
from tinygrad_lm.nn.context import Context
from tinygrad_lm.nn.module import Module
from tinygrad_lm.unchanged import Unchanged

PIECE = 8192  # tokens that are read together: what lies between two layers is as large as they are many
BLOCK = 2**16  # logits that tokens are drawn from together: a core's second-level cache holds them in float64
KEPT = 0.75  # the share of a group's texts below which those that ended are dropped: see prepared


class Drawn(NamedTuple):
    """A token that was drawn for prompt number `row`, and what is asked for besides.

    logprob           log P of it by the model
    sampling_logprob  the same under the distribution that it was drawn from, after temperature, filters, penalty and
                      vocab_size
    likeliest         (token, log P by the model) of the likeliest ones in its place, the likeliest first
    """

    row: int
    token: int
    logprob: float | None = None
    sampling_logprob: float | None = None
    likeliest: tuple = ()


class Group(NamedTuple):
    """Texts of one length, by their numbers, and the cache whose rows they are: all of each but its last token."""

    texts: list
    cache: Cache


def generate(
    model: Module, prompt: Sequence[int] | Array, n: int, seed: int = 0, **sampling: Any
) -> Iterator[int]:  # fmt: skip
    """Yield n token ids that continue the prompt (at least one id). Options: see generate_batch and Sampler.

    The same seed draws the same text. Where the text outgrows the model's context, it continues from the newer
    half of it.
    """
    return (drawn.token for drawn in generate_batch(model, [prompt], n, seed, **sampling))


def generate_batch(
    model: Module, prompts: Sequence[Sequence[int] | Array], n: int, seed: int = 0,
    stop: Callable[[list[int]], bool] = lambda tokens: False, logprobs: bool = False, top: int = 0,
    vocab_size: int | None = None, rows: Sequence[int] | None = None, **sampling: Any,
) -> Iterator[Drawn]:  # fmt: skip
    """Yield Drawn tokens, up to n for each of several prompts; they may have different lengths, or be equal.

    The model computes them together, since most of the time goes into fetching its weights from memory; it reads equal
    prompts once, and those of one length share a cache. What is drawn for a prompt depends on its place among them, up
    to rounding on nothing else. rows: whole numbers that stand for their places, so that a part of the prompts is
    continued as it would be among all. stop: a function of the ids that were drawn for a prompt; where it is true the
    text ends. logprobs: give the log-probabilities of each token, and of the `top` likeliest in its place. vocab_size:
    no id from there on is drawn; published models pad their tables.
    """
    texts = [ids_of(prompt) for prompt in prompts]
    rows = list(range(len(texts)) if rows is None else rows)
    ranges = {
        "n": (n, "at least 0 and a whole number", is_whole(n)),
        "seed": (seed, "a whole number from 0 to 2⁶⁴ − 1", is_whole(seed) and seed < 2**64),
        "top": (top, "at least 0 and a whole number", is_whole(top)),
        "vocab_size": (vocab_size, "at least 1 and a whole number", vocab_size is None or is_whole(vocab_size, 1)),
        "rows": (
            rows,
            f"a whole number below 2⁶⁴ for each of {len(texts)}",
            len(rows) == len(texts) and all(is_whole(row) and row < 2**64 for row in rows),
        ),
    }
    check_ranges("generate", ranges)
    if not all(texts):
        raise ConfigError("generate: the prompt is empty; there must be a token to continue from")
    return write(model, texts, n, seed, stop, logprobs, top, vocab_size, list(map(int, rows)), Sampler(**sampling))


def ids_of(prompt):
    """A prompt's token ids as a list of integers. DtypeError where it is something else, such as the text itself."""
    try:
        return list(map(index, prompt.numpy() if isinstance(prompt, Tensor) else prompt))
    except TypeError:
        raise DtypeError(
            f"generate: a prompt must be a list of token ids, whole numbers; found {prompt!r:.60}\n"
            "  hint : of a text they are tokenizer.encode(text)"
        ) from None


def write(model, texts, n, seed, stop, logprobs, top, vocab_size, rows, sampler):
    """What `generate_batch` describes."""
    lengths, active, weights = [len(text) for text in texts], list(range(len(texts))), Unchanged(model.flat.data)
    with weights:
        groups = read_prompts(model, texts) if n else []
    for i in range(n):
        if not active:
            return
        going = set(active)
        with weights:
            groups = [prepared(model, texts, group, going) for group in groups if not going.isdisjoint(group.texts)]
            logits = predict(model, texts, groups, active)
        step = max(1, BLOCK // logits.shape[1])
        for start in range(0, len(active), step):
            here, z = active[start : start + step], logits[start : start + step]
            u = uniform(seed, i, [rows[m] for m in here]) if sampler.temperature else None
            tokens, sampling_logprobs = sampler.draw(z[:, :vocab_size], [texts[m] for m in here], u)
            columns = [here, tokens.tolist()]
            if logprobs:
                columns += [model_logprobs(z, tokens).tolist(), sampling_logprobs.tolist()]
                columns += [likeliest(z, top)] if top else []
            for drawn in map(Drawn, *columns):
                texts[drawn.row].append(drawn.token)
                yield drawn
        active = [m for m in active if not stop(texts[m][lengths[m] :])]


def read_prompts(model, texts):
    """The groups of the texts' last tokens, as many as the context takes."""
    texts, lengths = [tuple(text[-model.config.block_size :]) for text in texts], {}
    for m, text in enumerate(texts):
        lengths.setdefault(len(text), []).append(m)
    return [Group(members, read(model, [texts[m] for m in members])) for members in lengths.values()]


def read(model, texts):
    """The cache of texts of one length, all of each but the last token, which is still to be fed; equal ones once."""
    places = {text: j for j, text in enumerate(dict.fromkeys(map(tuple, texts)))}
    tokens = to_device(np.array(list(places))[:, :-1], model.flat.device)
    cache = Cache(model.config.block_size, len(places))
    step = max(1, PIECE // len(places))
    with no_grad():
        for start in range(0, tokens.shape[1], step):
            model.features(tokens[:, start : start + step], Context(cache=(cache,)))
    return cache.select([places[tuple(text)] for text in texts]) if len(places) < len(texts) else cache


def prepared(model, texts, group, active):
    """The group as its next token needs it.

    Texts that outgrow the context are read again from the newer half of it. Those that have ended are dropped where
    they are many: it means to copy the cache of the others.
    """
    size, going = model.config.block_size, [j for j, m in enumerate(group.texts) if m in active]
    members = [group.texts[j] for j in going]
    if group.cache.length == size:
        return Group(members, read(model, [texts[m][-(size // 2 or 1) :] for m in members]))
    return Group(members, group.cache.select(going)) if len(going) <= KEPT * len(group.texts) else group


def predict(model, texts, groups, active):
    """The logits of what follows each active text, (B, V), after one more call with the last token of each text."""
    places = {m: j for j, m in enumerate(m for group in groups for m in group.texts)}
    tokens = to_device(np.array([texts[m][-1:] for m in places]), model.flat.device)
    with no_grad():
        logits = next_logits(tokens, model, Context(cache=tuple(group.cache for group in groups)))
        return logits.numpy()[[places[m] for m in active], -1]


@replaceable
def next_logits(tokens, model, context):
    """The logits (B, 1, V) of what follows the newest tokens (B, 1) of texts, the rest of which is in the cache."""
    return model(tokens, context)


def model_logprobs(logits, tokens):
    """log P of a token for each row of logits, (B,), in float64."""
    z = np.subtract(logits, logits.max(1, keepdims=True), dtype=np.float64)
    return z[np.arange(len(z)), tokens] - np.log(np.exp(z, out=z).sum(1))


def likeliest(logits, top):
    """Of each row of logits (B, V) the `top` likeliest tokens, likeliest first, as pairs of a token and its log P."""
    tokens = np.argsort(-logits, 1, kind="stable")[:, :top]
    logprobs = np.take_along_axis(log_softmax(logits), tokens, 1)
    return [tuple(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), logprobs.tolist(), strict=True)]


def log_softmax(logits):
    """log P of logits (..., V), in float64."""
    z = np.subtract(logits, logits.max(-1, keepdims=True), dtype=np.float64)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
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
