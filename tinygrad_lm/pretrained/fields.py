"""What the config.json files of all families share."""

import json
import math
from pathlib import Path

from tinygrad_lm.errors import CheckpointError, ConfigError, check_ranges

# Hugging Face's names of the activations, and ours; export uses the first of several.
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
        raise CheckpointError(f"{path} is damaged: {error}; download it again") from None
    return content


def positive(fields, names):
    """The fields of these names as positive numbers, for check_ranges."""
    is_positive = lambda x: type(x) in (int, float) and 0 < x < math.inf
    return {name: (fields[name], "a positive number", is_positive(fields[name])) for name in names}


def unaliased(config, aliases):
    """A config.json with every field under its own name. Raises ConfigError where an alias has another value.

    aliases: {other name: own name}
    """
    given = {alias: name for alias, name in aliases.items() if alias in config}
    if differing := [
        f"{name} = {config[name]} and {alias} = {config[alias]}"
        for alias, name in given.items()
        if config.get(name, config[alias]) != config[alias]
    ]:
        raise ConfigError(f"config.json: {', '.join(differing)} are two values of one field; remove the wrong one")
    others = {name: value for name, value in config.items() if name not in given}
    return others | {name: config[alias] for alias, name in given.items()}


def check_fields(config, sizes, optional, numbers, activation, flags, only):
    """Raise one ConfigError that lists everything in a config.json that is wrong or that our model cannot express.

    sizes: fields that must be positive whole numbers · optional: the same, or null · numbers: positive numbers
    activation: the field that names it · flags: true, false, or null for false
    only: {flag: its one supported value, which is also its value where it is absent}
    """
    get = config.get
    whole = [*sizes, *(name for name in optional if get(name) is not None)]
    settings = {
        name: (get(name), "a positive whole number", type(get(name)) is int and get(name) > 0) for name in whole
    }
    settings |= positive(config, numbers)
    settings |= {name: (get(name), "true or false", isinstance(get(name), bool | None)) for name in flags}
    for name, value in only.items():
        found = get(name, value)
        settings[name] = (found, f"{value}, the only supported value", found is value or (found is None and not value))
    names, quantisation = ", ".join(ACTIVATIONS), get("quantization_config")
    settings[activation] = (get(activation), f"one of {names}", get(activation) in ACTIVATIONS)
    rule = "absent (quantised weights are not supported; use the original ones)"
    settings["quantization_config"] = (quantisation, rule, not quantisation)
    check_ranges(f"configuration of a {config['model_type']} model", settings)
