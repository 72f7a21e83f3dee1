"""From one model to another: adapters folded in, and weights handed on."""

from dataclasses import replace

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.nn.layers import Linear


def merge(model):
    """A GPT without adapters that computes the same; the model itself if it has none."""
    if not model.config.lora:
        return model
    plain = GPT(replace(model.config, lora=0), None, model.parameters.data.dtype, model.parameters.device)
    masters = model.parameters.masters()
    weights = {name: w for name, w in masters.items() if name in plain.parameters}
    for name, module in model.named_modules():
        if isinstance(module, Linear) and module.lora_a is not None:
            w, a, b = (masters[f"{name}.{part}"] for part in ("weight", "lora_a", "lora_b"))
            weights[f"{name}.weight"] = w + module.scale * (a @ b)  # Hu et al. 2021, section 4.1: at no cost
    plain.parameters.load(weights)
    return plain


def inherit(model, base):
    """Give a GPT the weights of another, by name. Adapters that it has and the other has not stay as they are.

    Its context may be shorter: then it takes over the first of the learned positions. CheckpointError tells what does
    not fit; ConfigError says that its context is longer than what the other knows.
    """
    T, known = model.config.block_size, base.config.block_size
    if known < T:
        raise ConfigError(f"inherit: block_size {T} is longer than the {known} positions that the given model knows")
    adapters = {name: w for name, w in model.parameters.masters().items() if ".lora_" in name}
    weights = adapters | merge(base).parameters.masters()
    if "wpe.weight" in weights:
        weights["wpe.weight"] = weights["wpe.weight"][:T]
    model.parameters.load(weights)
    return model
