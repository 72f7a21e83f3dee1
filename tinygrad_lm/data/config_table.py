"""Checking a table of settings that somebody wrote: each value by its key, and everything that is wrong at once."""

import json
from decimal import Decimal


def checked(table, kinds, where, problems):
    """The values of a table that are of the right kind; what is wrong with the others goes to `problems`.

    kinds: {key: (what is expected, check)}. Lists become tuples, Decimals floats.
    """
    values = {}
    for key, value in table.items():
        if key not in kinds:
            problems.append(f"{where}: {key!r} is unknown; expected one of {', '.join(kinds)}")
        elif not kinds[key][1](value):
            problems.append(f"{where}: {key}: expected {kinds[key][0]}, found {shown(value)}")
        else:
            values[key] = tuple(value) if isinstance(value, list) else floats(value)
    return values


def floats(value):
    """The same with a float for each Decimal, in tables and lists too."""
    if isinstance(value, dict):
        return {key: floats(v) for key, v in value.items()}
    if isinstance(value, list):
        return [floats(v) for v in value]
    return float(value) if isinstance(value, Decimal) else value


def shown(value):
    """The value in a message, as it would be written."""
    return str(value) if isinstance(value, Decimal) else repr(value)


def text(value):
    return isinstance(value, str) and value != ""


def texts(value):
    return isinstance(value, list) and all(map(text, value))


def some_texts(value):
    return texts(value) and value != []


def share(value):
    """A number from 0 to less than 1."""
    number = type(value) is int or (isinstance(value, Decimal) and value.is_finite())  # bool is no number here
    return number and 0 <= value < 1


def table(value):
    """A table that JSON can hold: it has no dates."""
    try:
        json.dumps(floats(value), allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict)
