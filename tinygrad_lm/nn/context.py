"""What a call of a model hands down to its parts besides x, as one object. On the page that is nothing."""

from contextlib import contextmanager
from dataclasses import dataclass

from tinygrad_lm import ops
from tinygrad_lm.backend import FLOAT32, Array
from tinygrad_lm.engine.observe import within
from tinygrad_lm.engine.replaceable import Replaceable


@dataclass(frozen=True)
class Context:
    """Empty for evaluation. Each part takes from it what it needs.

    key              (seed, step, row) for the random numbers of dropout, where row is the number of the batch's first
                     row among all rows of the step; empty: nothing is dropped
    document_starts  integers (B, T), for each position the first one that it may see, counted from the beginning of
                     the cache; None: it sees all before it (data/loader.py)
    cache            Caches of the B rows in order, for generation (generation/cache.py); a call appends its tokens
    """

    key: tuple = ()
    document_starts: Array | None = None
    cache: tuple = ()


NONE = Context()


@contextmanager
def computing(dtype, device):
    """Within the block a model of this dtype computes. Yields that of its values: float32 where only products round."""
    rounding = f"/{dtype.type.__name__}"  # a new object in each call, by which a kernel knows how long it keeps things
    alone = Replaceable.enabled and (device, f"float32{rounding}") in ops.linear.implementations
    with within(products=rounding if alone else ""):
        yield FLOAT32 if alone else dtype
