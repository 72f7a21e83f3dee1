"""Results that are not kept, because they can be computed again from what is: the products that come next do so.

A product needs its input once more for its weight's gradient. Where that is what a norm or an activation gave, a pass
over the input of these, which they keep for their own gradients, costs less than the memory.
"""

import threading
import weakref
from functools import cache

from tinygrad_lm.engine.observe import thread


class _Last(threading.local):
    """What this thread computed last of all that can be computed again, how, and how products round there."""

    y, again, products = staticmethod(lambda: None), None, ""


last = _Last()


def remember(y, again):
    """Let y be had from again() as a product that rounds as here wants it; it is computed once for all that ask."""
    if thread.recording:
        last.y, last.again, last.products = weakref.ref(y), cache(again), thread.products


def computed_again(y):
    """What `remember` was given for y, if that was its last call and products rounded there as here; or None."""
    return last.again if last.y() is y and last.products == thread.products else None
