"""What a call of a model hands down to its parts besides x, as one object. On the page that is nothing."""

from dataclasses import dataclass


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
    document_starts: object = None
    cache: tuple = ()


NONE = Context()
