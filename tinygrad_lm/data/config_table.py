"""Check a table of settings: each value by its key, every problem in one message.

The kinds of a table are {key: (what is expected, a function that says whether a value is that)}.
"""

import json
from decimal import Decimal
from math import isfinite


def check_table(table, kinds):
    """(the values that are of their kind, a line for each problem). Lists become tuples, Decimals floats."""
    values, problems = {}, []
    for key, value in as_floats(table).items():
        if key not in kinds:
            problems.append(f"{key!r} is unknown; expected one of {', '.join(kinds)}")
        elif not kinds[key][1](value):
            problems.append(f"{key}: expected {kinds[key][0]}, found {value!r}")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    return values, problems


def problem_list(subject, problems):
    """One message with a line for each problem."""
    return "\n  ".join([f"{subject}: {len(problems)} problem{'s' * (len(problems) > 1)}", *problems])


def as_floats(value):
    """The value with a float for each Decimal, in tables and lists too."""
    if isinstance(value, dict):
        return {key: as_floats(v) for key, v in value.items()}
    if isinstance(value, list):
        return [as_floats(v) for v in value]
    return float(value) if isinstance(value, Decimal) else value


def number_kind(least):
    return f"a number of at least {least}", lambda x: type(x) in (int, float) and isfinite(x) and x >= least


def share_kind():
    return "a share from 0 to less than 1", lambda x: type(x) in (int, float) and 0 <= x < 1  # bool is an int, too


def whole_kind(least, most):
    return f"a whole number from {least} to {most}", lambda x: type(x) is int and least <= x <= most


def text_kind(expected):
    return expected, _is_text


def texts_kind(expected, least=0):
    """A list of at least so many texts."""
    return expected, lambda x: isinstance(x, list) and len(x) >= least and all(map(_is_text, x))


def choice_kind(*choices):
    *others, last = [f'"{choice}"' for choice in choices]
    return f"{', '.join(others)} or {last}" if others else last, lambda x: x in choices


def table_kind():
    """A table that JSON can hold: without dates, NaN and infinity."""
    return "a table of texts and numbers", _is_json_table


def _is_text(value):
    return isinstance(value, str) and value != ""


def _is_json_table(value):
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict)
