"""The keys and values of texts so far, for generation: each new token needs them all."""

from tinygrad_lm.backend import Array, array_module
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ShapeError

LEAST = 64  # positions for which there is room at first


class Cache:
    """The keys and values of some texts of one length so far, of each attention by its name, to compute them but once.

    Of all `rows` texts the same number of positions, at most `size`. Memory grows with them: there is room for at most
    twice as many as there have been. What a head reads lies together.
    """

    def __init__(self, size: int, rows: int = 1):
        self.size, self.rows = size, rows
        self.lengths: dict[str, int] = {}
        self.arrays: dict[str, list[Array]] = {}

    @property
    def length(self) -> int:
        """How many positions each text has, between calls of the model."""
        return max(self.lengths.values(), default=0)

    def extend(self, name: str, k: Tensor, v: Tensor) -> list[Tensor]:
        """Append keys and values, (rows, T, G, D) each, of an attention; return all so far, (rows, S, G, D) each."""
        rows, T, G, D = k.shape
        if rows != self.rows:
            raise ShapeError(f"Cache: keys of shape {k.shape} for {self.rows} texts; the first axis must be as long")
        start = self.lengths.get(name, 0)
        stop = start + T
        if stop > self.size:
            raise ShapeError(f"Cache: {start} positions and {T} more, with room for {self.size}")
        if name not in self.arrays or stop > self.arrays[name][0].shape[1]:
            room = min(self.size, max(LEAST, 2 * stop))
            larger = [array_module(x.data).empty((rows, G, room, D), x.dtype).swapaxes(1, 2) for x in (k, v)]
            for array, old in zip(larger, self.arrays.get(name, ()), strict=False):
                array[:, :start] = old[:, :start]
            self.arrays[name] = larger
        for array, x in zip(self.arrays[name], (k, v), strict=True):
            array[:, start:stop] = x.data
        self.lengths[name] = stop
        return [Tensor.of(array[:, :stop]) for array in self.arrays[name]]

    def select(self, indices: list[int]) -> "Cache":
        """Another Cache, of the rows with these indices; one that is there several times can grow differently."""
        chosen = Cache(self.size, len(indices))
        for name, length in self.lengths.items():
            arrays = [array[:, :length] for array in self.arrays[name]]
            chosen.extend(name, *(Tensor.of(array[array_module(array).asarray(indices, int)]) for array in arrays))
        return chosen
