"""Independent pieces of work on all cores of all ranks."""

from itertools import accumulate, pairwise

import numpy as np

from tinygrad_lm.distributed.communicator import world
from tinygrad_lm.threads import parallel


def dealt(function, pieces, ranks=None):
    """[function(piece), …] of all pieces in their order, everywhere, as flat arrays of float64.

    Each of the ranks [those of this process's job] computes every N-th piece, on all its cores (threads.parallel).
    function: returns numbers
    """
    ranks, pieces = ranks or world(), list(pieces)
    mine = [np.ravel(x).astype(float) for x in parallel(function, pieces[ranks.rank :: ranks.size])]
    all_sizes = ranks.gather(np.array([x.size for x in mine], int))
    all_values = ranks.gather(np.concatenate([np.zeros(0), *mine]))
    found = [None] * len(pieces)
    for rank, (sizes, values) in enumerate(zip(all_sizes, all_values, strict=True)):
        ends = pairwise(accumulate(sizes.tolist(), initial=0))
        found[rank :: ranks.size] = [values[start:stop] for start, stop in ends]
    return found
