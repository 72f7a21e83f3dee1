"""What the quick profile leaves out. conftest.py keeps here what it found while collecting."""

import pytest

MOST = 8  # of the parameters of one test in the quick profile
LEFT_OUT = pytest.StashKey[int]()  # how many tests
NOTHING_QUICK = pytest.StashKey[set]()  # the files all of whose tests are slow


def few_of_each(items):
    """Of each test with many parameters at most MOST, evenly spread; all where it is marked `every`."""
    tests = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for some in tests.values():
        yield from some[:: 1 if some[0].get_closest_marker("every") else -(-len(some) // MOST)]


def first_of_each(rows, kind):
    """The rows as a test's parameters: the first of each kind(row) as it is, the others marked slow."""
    kinds, parameters = set(), []
    for row in rows:
        values = row if isinstance(row, tuple) else (row,)
        parameters.append(pytest.param(*values, marks=[pytest.mark.slow] * (kind(row) in kinds)))
        kinds.add(kind(row))
    return parameters


def slow_but(rows, *quick):
    """The rows as a test's parameters, all but those in `quick` marked slow."""
    return [pytest.param(row, marks=[pytest.mark.slow] * (row not in quick)) for row in rows]
