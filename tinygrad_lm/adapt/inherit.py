"""From one model to another: weights handed on."""

from typing import Any

from tinygrad_lm.errors import ConfigError


def inherit(model: Any, base: Any) -> Any:
    """Give a GPT the weights of another, by name. Returns the model.

    Its context may be shorter: then it takes over the first of the learned positions. CheckpointError lists what does
    not fit; ConfigError says that its context is longer than what the other knows.
    """
    T, known = model.config.block_size, base.config.block_size
    if known < T:
        raise ConfigError(f"inherit: block_size {T} is longer than the {known} positions that the given model knows")
    weights = base.flat.arrays()
    if "wpe.weight" in weights:
        weights["wpe.weight"] = weights["wpe.weight"][:T]
    model.flat.load(weights)
    return model
