"""What the config.json of any family has in common."""

import json
import math
from pathlib import Path

from tinygrad_lm.errors import CheckpointError, ConfigError

# Hugging Face's names of the activations, and ours; of equals the first is written.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu_squared",
    "silu": "silu",
    "swish": "silu",
}
NAMES = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}


def read_json(path):
    """The object in a JSON file. Raises CheckpointError."""
    try:
        content = json.loads(Path(path).read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, found {type(content).__name__}")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; fetch it again") from None
    return content


def not_positive(fields, names):
    """What is wrong with fields that must be positive numbers."""
    return [
        f"{name} must be a positive number, found {fields[name]!r}"
        for name in names
        if type(fields[name]) not in (int, float) or not 0 < fields[name] < math.inf
    ]


def check(config, sizes, optional, numbers, activation, flags, only):
    """Raises ConfigError that tells all that is wrong with a config.json, or that our model cannot be.

    sizes: fields that must be positive whole numbers; optional: these, or null; numbers: positive numbers; activation:
    the field that names it; flags: true, false, or null for false; only: {field: the one value that it may have},
    which it also has where it is absent.
    """
    problems = [
        f"{name} must be a positive whole number, found {config.get(name)!r}"
        for name in (*sizes, *(name for name in optional if config.get(name) is not None))
        if type(config.get(name)) is not int or config[name] < 1
    ]
    problems += not_positive(config, numbers)
    problems += [
        f"{name} must be true or false, found {config[name]!r}"
        for name in flags
        if not isinstance(config.get(name), bool | None)
    ]
    if config.get(activation) not in ACTIVATIONS:
        problems.append(f"{activation} must be one of {', '.join(ACTIVATIONS)}, found {config.get(activation)!r}")
    problems += [
        f"{name} = {config[name]!r} is not supported, only {value!r}"
        for name, value in only.items()
        if (config.get(name, value) or False) != value
    ]
    if config.get("quantization_config"):
        problems.append("quantization_config: quantised weights are not supported; take the model's original ones")
    if problems:
        raise ConfigError(f"configuration of a {config['model_type']} model: " + "; ".join(problems))
