"""gradcheck_module: compare the gradient of every parameter of a module, by name, with a numerical derivative."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from tinygrad_lm.backend import is_floating, random, to_device
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, DtypeError
from tinygrad_lm.testing.gradcheck import gradcheck, in_float64, signed
from tinygrad_lm.testing.report import Report


def gradcheck_module(
    loss: Callable[..., Tensor], model: Any, *inputs: Any, allow_unused: Sequence[str] = (), seed: int = 0,
    **options: Any,
) -> Report:  # fmt: skip
    """Compare the gradients of a module's parameters with numerical ones; raise GradientError where they differ.

        gradcheck_module(lambda model, x: model(x), model, x)

    loss          maps a model and the inputs to a tensor of any shape. The model is a copy of yours in float64 (complex
                  numbers with method="complex"), so loss must compute with the one that it is given
    model         an initialised module, a small one: its result is computed twice or more for each number in it. Frozen
                  parameters stay as they are; each other number is moved by ±0.15 to ±0.45, because at 0 and 1, where
                  biases and gains begin, mistakes in other gradients do not show
    inputs        what loss needs besides: floating arrays and tensors get the parameters' dtype, as those do that are
                  attributes of modules; everything else is passed on
    allow_unused  patterns of names, "wte.*" or "h.[0-5].*", of parameters that may have no influence on the result
    options       as gradcheck's: method, tolerance, entries, cotangents, verbose

    Prints and returns gradcheck's Report, with a row for each parameter under its name.
    """
    if not hasattr(model, "named_parameters"):
        raise ConfigError(
            f"gradcheck_module: expected a function and a module, found {model!r:.60}\n"
            "  hint : gradcheck_module(lambda model, x: model(x), model, x)"
        )
    copy = deepcopy(model)
    named = copy.named_parameters()
    names = [name for name, p in named if p.requires_grad]
    idle = [pattern for pattern in allow_unused if not any(fnmatchcase(name, pattern) for name in names)]
    if idle or not names:
        missing = f"named {' or '.join(map(repr, idle))}" if idle else "to check"
        raise ConfigError(
            f"gradcheck_module: {type(model).__name__} has no parameter {missing}\n"
            f"  names : {', '.join(names) or 'none that is not frozen'}"
        )
    values = {name: in_float64(to_device(p.data, "cpu"), name) for name, p in named}
    for name in names:
        values[name] = values[name] + 0.3 * signed(random(seed, f"gradcheck/{name}"), values[name].shape)
    for _, p in named:
        p.store = None  # out of the flat array, which has one dtype
    modules = [module for _, module in copy.named_modules()]
    constants = [(module, key, x) for module in modules for key, x in vars(module).items() if cast(x, float) is not x]

    def of_parameters(*tensors):
        """The loss of the copy with these parameters, and all else in their dtype."""
        drawn, dtype = dict(zip(names, tensors, strict=True)), tensors[0].dtype
        for name, p in named:
            if name in drawn:
                p.data, p.node = drawn[name].data, drawn[name].node
            else:
                p.data = values[name].astype(dtype)
        for module, key, x in constants:
            setattr(module, key, cast(x, dtype))
        for module in modules:
            if hasattr(module, "computing"):  # a model that says what it computes in, as GPT does
                module.computing = partial(nullcontext, dtype)
        try:
            return loss(copy, *(cast(x, dtype) for x in inputs))
        except DtypeError as error:
            raise DtypeError(
                f"{error}\n  hint : gradcheck_module computes in {dtype}; it converts arrays that are its inputs or\n"
                "         a module's attributes: gradcheck_module(lambda model, x: model(x), model, x)"
            ) from error

    of_parameters.__name__ = type(model).__name__
    unused = [i for i, name in enumerate(names) if any(fnmatchcase(name, pattern) for pattern in allow_unused)]
    return gradcheck(
        of_parameters, *(values[name] for name in names), names=names, allow_unused=unused, seed=seed, **options
    )


def cast(x, dtype):
    """Floating arrays, and tensors that are not recorded, in a dtype; anything else as it is."""
    if type(x) is Tensor and not x.requires_grad and is_floating(x.dtype):
        return Tensor.of(x.data.astype(dtype))
    return x.astype(dtype) if hasattr(x, "astype") and is_floating(x.dtype) else x
