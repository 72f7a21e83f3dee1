"""Looking over a model's shoulder: every operation that it calls, with the module that called it.

The model's code knows nothing of it: the calls of `Op` and of the model's module classes are wrapped for the length of
a block and put back afterwards. For one thread, as all that is patched is seen by all.
"""

from contextlib import contextmanager

from tinygrad_lm.engine.op import Op
from tinygrad_lm.nn.module import Module


@contextmanager
def observing(model, see, call=Op.__call__):
    """Within the block, see(module, op, inputs, options, y) follows every operation.

    module: the name of the innermost module at work, such as "h.0.attn.c_q", "" for none below the model itself
    call: what computes an operation's value, (op, *inputs, **options) -> y
    """
    names = [""]

    def operation(op, *inputs, **options):
        y = call(op, *inputs, **options)
        see(names[-1], op, inputs, options, y)
        return y

    def entering(before):
        def module(self, *arguments, **options):
            names.append(self.name)
            try:
                return before(self, *arguments, **options)
            finally:
                names.pop()

        return module

    kinds = {kind for _, module in model.named_modules() for kind in type(module).__mro__ if issubclass(kind, Module)}
    before = {kind: vars(kind)["__call__"] for kind in kinds if "__call__" in vars(kind)}
    untouched = Op.__call__
    try:
        Op.__call__ = operation
        for kind, function in before.items():
            kind.__call__ = entering(function)
        yield
    finally:
        Op.__call__ = untouched
        for kind, function in before.items():
            kind.__call__ = function
