"""Which of a test's parameters the quick profile keeps: something of each kind."""

import pytest


def first_of_each(rows, kind):
    """The rows as parameters: the first of each kind(row) as it is, the others marked slow."""
    kinds, parameters = set(), []
    for row in rows:
        values = row if isinstance(row, tuple) else (row,)
        parameters.append(pytest.param(*values, marks=[pytest.mark.slow] * (kind(row) in kinds)))
        kinds.add(kind(row))
    return parameters
