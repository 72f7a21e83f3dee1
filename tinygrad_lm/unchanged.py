"""Memory that does not change for a while, so that what is computed from it need not be computed again.

    weights = Unchanged(model.flat.data)
    for … in …:
        with weights:
            model(tokens)

The caller promises that this memory stays as it is as long as the object lives. Within its blocks, in the thread that
is in one, kernels may keep what they derive from arrays that lie in it (`derived`): a matrix rounded to bfloat16, two
bytes a weight. It is dropped with the object, and a generator that is abandoned takes its own along.
"""

import threading
import weakref

import numpy as np

NOTHING = (lambda: None), None


class _Thread(threading.local):
    """The blocks that this thread is in, outermost first."""

    def __init__(self):
        self.blocks = []


thread = _Thread()


class Unchanged:
    """A promise about the memory of a contiguous array; as a context, what was derived from it is at hand.

    An outer block about the same memory serves an inner one. Several threads may be in blocks of one object.
    """

    def __init__(self, memory):
        self.memory, self.kept, self.at_hand, self.making = memory, {}, {}, threading.Lock()
        if isinstance(memory, np.ndarray):
            self.start, self.stop = memory.ctypes.data, memory.ctypes.data + memory.nbytes
        else:  # on a GPU nothing is derived
            self.start = self.stop = 0

    def __enter__(self):
        thread.blocks.append(self)

    def __exit__(self, *error):
        thread.blocks.pop()


def derived(make, x):
    """make(x), computed once where the memory of x does not change; None where it may. x: a NumPy array."""
    for block in thread.blocks:
        ref, made = block.at_hand.get((make, id(x)), NOTHING)
        if ref() is x:
            return made
    for block in thread.blocks:
        start = x.ctypes.data
        if block.start <= start and start + x.nbytes <= block.stop:
            with block.making:
                key = make, start, x.shape, x.strides
                if key not in block.kept:
                    block.kept[key] = make(x)
                block.at_hand[make, id(x)] = weakref.ref(x), block.kept[key]
                return block.kept[key]
    return None
