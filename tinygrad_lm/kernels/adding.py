"""Gradients that are added to one that is there in the pass that computes them: see engine/op.py."""


class Adding:
    """A gradient that is not computed yet: compute(plus, out) -> it, plus an array of its shape if there is one.

    dtype: of what it computes. out: where to write, which may be `plus` itself; None: a new array.
    """

    def __init__(self, compute, dtype):
        self.compute, self.dtype = compute, dtype

    def __call__(self):
        return self.compute(None, None)

    def plus(self, total, out=None):
        found = self.compute(total, out)
        return found if out is None else out
