"""The keys and values of a text so far, for generation: each new token needs them all."""

from tinygrad_lm.backend import array_module
from tinygrad_lm.engine.tensor import Tensor


class Cache:
    """The keys and values of one text so far, of each attention by its name, so that they need not be computed again.

    Room for `size` positions is set aside at once; memory that was never written to is not taken from the system.
    """

    def __init__(self, size):
        self.size, self.lengths, self.arrays = size, {}, {}

    @property
    def length(self):
        """How many positions it has, between calls of the model."""
        return max(self.lengths.values(), default=0)

    def extend(self, name, k, v):
        """Append keys and values, (1, T, G, D) each, of an attention; return all so far, (1, S, G, D) each."""
        start = self.lengths.get(name, 0)
        if not start:
            _, _, G, D = k.shape
            self.arrays[name] = [array_module(x.data).empty((1, self.size, G, D), x.dtype) for x in (k, v)]
        stop = self.lengths[name] = start + k.shape[1]
        for array, x in zip(self.arrays[name], (k, v), strict=True):
            array[:, start:stop] = x.data
        return [Tensor.of(array[:, :stop]) for array in self.arrays[name]]

    def copy(self):
        """Another Cache of the same text, which can grow differently."""
        twin = Cache(self.size)
        for name, length in self.lengths.items():
            twin.extend(name, *(Tensor.of(array[:, :length]) for array in self.arrays[name]))
        return twin
