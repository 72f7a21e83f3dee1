"""What the quick profile leaves out: the tests marked slow. conftest.py keeps here what it found while collecting."""

import pytest

LEFT_OUT = pytest.StashKey[int]()  # how many tests
NOTHING_QUICK = pytest.StashKey[set]()  # the files all of whose tests are slow


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
