"""The keys and values of texts so far, for generation: each new token needs them all."""

from tinygrad_lm.backend import Array, array_module
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ShapeError


class Cache:
    """The keys and values of some texts of one length so far, of each attention by its name, to compute them but once.

    Room for `size` positions of all `rows` texts is set aside at once; memory that was never written to is not taken
    from the system.
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
        if name not in self.arrays:
            shape = rows, self.size, G, D
            self.arrays[name] = [array_module(x.data).empty(shape, x.dtype) for x in (k, v)]
        start = self.lengths.get(name, 0)
        stop = self.lengths[name] = start + T
        for array, x in zip(self.arrays[name], (k, v), strict=True):
            array[:, start:stop] = x.data
        return [Tensor.of(array[:, :stop]) for array in self.arrays[name]]

    def select(self, indices: list[int]) -> "Cache":
        """Another Cache, of the rows with these indices; one that is there several times can grow differently."""
        chosen = Cache(self.size, len(indices))
        for name, length in self.lengths.items():
            arrays = [array[:, :length] for array in self.arrays[name]]
            chosen.extend(name, *(Tensor.of(array[array_module(array).asarray(indices, int)]) for array in arrays))
        return chosen
