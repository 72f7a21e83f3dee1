"""Memory for arrays that are kept for long and read from end to end again and again, such as a model's rounded weights.

They lie one behind the other in arrays so large that NumPy asks Linux for pages of 2 MB: a processor that has to look
up where each 4 KB lie fetches matrices of 1 to 5 MB up to a tenth more slowly.
"""

import math
import threading
import weakref

import numpy as np

from tinygrad_lm.threads import keep_memory

CHUNK = 2**25  # bytes


class Lasting:
    """Called as tiles.py's `aligned`. A chunk is freed with the last of its arrays, to be taken for others."""

    def __init__(self):
        self.chunk, self.used, self.one_at_a_time = lambda: None, 0, threading.Lock()

    def __call__(self, shape, dtype):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self.one_at_a_time:
            memory = self.chunk()
            if memory is None or self.used + size > memory.nbytes:
                keep_memory()
                memory = np.empty(max(size + 64, CHUNK), np.uint8)
                self.chunk, self.used = weakref.ref(memory), -memory.ctypes.data % 64
            start, self.used = self.used, self.used + -(-size // 64) * 64
            return np.ndarray(shape, dtype, memory, start)


lasting = Lasting()
