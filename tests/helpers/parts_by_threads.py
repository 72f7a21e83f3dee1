"""Parts of loops by any threads in any order, which real partners would take by chance."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest


@contextmanager
def parts_by_threads(n):
    """Within the block the parts of loops that are `shared` are computed by n threads, the last part first."""
    from tinygrad_lm.kernels.numba.together import partners

    with ThreadPoolExecutor(n) as pool, pytest.MonkeyPatch.context() as patch:

        def work(leader, size, grain, *arguments):
            parts = reversed(range(-(-size // grain)))
            assert set(pool.map(lambda part: leader(size, grain, part, partners.mailbox, *arguments), parts)) == {0}

        patch.setattr(partners, "work", work)
        patch.setattr(partners, "allowed", lambda: True)
        yield
