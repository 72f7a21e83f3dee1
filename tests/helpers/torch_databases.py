"""PyTorch's own test databases: samples of inputs for its operations, settings and errors of its optimizers.

Importing them takes seconds, so it happens in the first test that asks.
"""

import functools
import sys
import unittest
from types import ModuleType

import numpy as np
from hypothesis import settings

from tinygrad_lm import Tensor


@functools.cache
def databases():
    """(OpInfos by (name, variant), optimizer infos by name)."""
    if "expecttest" not in sys.modules:  # torch's test cases derive from it; its samples do not need it
        stand_in = ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase
        sys.modules["expecttest"] = stand_in
    ours = settings.get_current_profile_name()
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_optimizers import optim_db

    settings.load_profile(ours)  # torch has loaded one of its own, for all tests
    return {(info.name, info.variant_test_name): info for info in op_db}, {o.optim_cls.__name__: o for o in optim_db}


class NotHereError(Exception):
    """What a sample asks for is not offered here; its text is the reason."""


def info(name):
    """The OpInfo of "softmax", or "max/binary"."""
    name, _, variant = name.partition("/")
    return databases()[0][name, variant]


def samples(name, dtype, torch):
    """The samples of an operation in a dtype of torch, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(info(name).sample_inputs("cpu", dtype, requires_grad=False))


def each(value, convert, torch):
    """A sample's value with every tensor in it converted."""
    if isinstance(value, torch.Tensor):
        return convert(value)
    if isinstance(value, (list, tuple)):
        return type(value)(each(x, convert, torch) for x in value)
    if isinstance(value, dict):
        return {key: each(x, convert, torch) for key, x in value.items()}
    return value


def both(function, sample, ours, torch):
    """Run torch's function and ours on one sample, forward and backward.

    Returns ({what: ours}, {what: torch's}) of arrays, where what is "value" or "gradient 0", …
    """
    their_leaves, our_leaves = [], []

    def theirs(x):
        x = x.detach().clone().requires_grad_(x.is_floating_point())
        their_leaves.append(x)
        return x

    def our_own(x):
        array = x.detach().numpy().copy()
        x = Tensor(array, requires_grad=x.is_floating_point())
        our_leaves.append(x)
        return x

    call = (sample.input, *sample.args), sample.kwargs
    args, options = each(call, our_own, torch)
    y = ours(*args, **options)  # first, for it says what is not offered here
    args, options = each(call, theirs, torch)
    expected = function(*args, **options)
    expected = expected if isinstance(expected, torch.Tensor) else expected[0]
    found, right = {"value": y.data}, {"value": expected.detach().numpy()}
    if y.requires_grad and expected.requires_grad:
        dy = np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
        y.backward(dy)
        expected.backward(torch.tensor(dy, dtype=expected.dtype))
        for i, (our, their) in enumerate(zip(our_leaves, their_leaves, strict=True)):
            if their.grad is not None and our.requires_grad:
                found[f"gradient {i}"] = np.zeros(our.shape) if our.grad is None else our.grad
                right[f"gradient {i}"] = their.grad.numpy()
    return found, right
