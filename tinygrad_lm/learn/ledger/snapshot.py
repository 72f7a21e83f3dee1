"""Snapshot: an array as it was at one moment. Whole if it is small, otherwise its statistics."""

from dataclasses import dataclass

import numpy as np

from tinygrad_lm.backend import to_device

BINS = 16


@dataclass(frozen=True)
class Snapshot:
    """What is remembered of an array.

    array      a copy of it; None if it had more entries than were to be kept
    norm       √Σ x², of all entries, in float64
    low, high  the smallest and the greatest finite entry; mean and histogram are of the finite ones, too
    histogram  how many entries lie in each of 16 equal stretches from low to high
    wild       how many entries are not finite
    """

    shape: tuple
    dtype: str
    bytes: int
    array: np.ndarray | None
    norm: float
    low: float
    high: float
    mean: float
    histogram: tuple
    wild: int

    @property
    def size(self):
        return int(np.prod(self.shape, dtype=int))

    def __repr__(self):
        return f"Snapshot({self.shape} {self.dtype}, norm {self.norm:.4g}, from {self.low:.4g} to {self.high:.4g})"


def snapshot(x, keep):
    """The Snapshot of an array (NumPy's or a GPU's), whole if it has at most `keep` entries; None of None."""
    if x is None:
        return None
    x = np.asarray(to_device(x, "cpu"))
    numbers = x.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    with np.errstate(all="ignore"):  # what is huge or not a number is reported as such, without a warning
        norm = float(np.sqrt(numbers @ numbers))
        low, high, mean = map(float, (finite.min(), finite.max(), finite.mean())) if finite.size else (0.0, 0.0, 0.0)
        width = (high - low) / BINS
        places = np.minimum((finite - low) / width, BINS - 1) if 0 < width < np.inf else np.zeros(finite.size)
    histogram = tuple(np.bincount(places.astype(int), minlength=BINS).tolist())
    array = np.array(x) if x.size <= keep else None
    return Snapshot(
        x.shape, str(x.dtype), x.nbytes, array, norm, low, high, mean, histogram, numbers.size - finite.size
    )
