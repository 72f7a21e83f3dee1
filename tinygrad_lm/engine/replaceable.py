"""@replaceable: a definition that faster implementations can stand in for.

    @replaceable
    def sum_of_squares(x):
        return (x * x).sum()

    @sum_of_squares.on("cpu", "float32")  # in kernels/
    def sum_of_squares_in_blocks(x): ...

The definition says what is computed; it is what one reads, and what runs at a prompt and under a debugger. Where
implementations are switched on (`kernels.enable()`), a call runs the one for the device and dtype of its first array.
An implementation returns NotImplemented for arguments that it does not cover; then the definition runs.

This is the one way: for rules of operations (op.py), sums of gradients, updates of optimizers. The page has none.
"""

import functools

from tinygrad_lm.backend import device_of
from tinygrad_lm.engine.observe import thread


class Replaceable:
    """A function whose first argument is an array, and its implementations by (device, name of a dtype)."""

    enabled = False  # for all of them at once: kernels/__init__.py

    def __init__(self, definition):
        functools.update_wrapper(self, definition)
        self.definition, self.implementations = definition, {}

    def on(self, device, *dtypes):
        """Decorator: use this function for arrays on a device, "cpu" or "cuda", of these dtypes.

        "float32/bfloat16": for float32 where products round what they multiply to bfloat16 (nn/context.py)."""

        def register(implementation):
            self.implementations |= {(device, dtype): implementation for dtype in dtypes}
            return implementation

        return register

    def implementation(self, device, dtype):
        """The implementation that is in use for a device and a NumPy dtype, or None."""
        found, name = self.implementations if Replaceable.enabled else {}, dtype.type.__name__
        return found.get((device, name + thread.products)) or found.get((device, name))

    def __call__(self, x, *arguments, **options):
        if Replaceable.enabled and (faster := self.implementation(device_of(x), x.dtype)):
            result = faster(x, *arguments, **options)
            if result is not NotImplemented:
                return result
        return self.definition(x, *arguments, **options)

    def __reduce__(self):
        return self.__qualname__  # pickled and copied as itself, by its name in its module


replaceable = Replaceable
