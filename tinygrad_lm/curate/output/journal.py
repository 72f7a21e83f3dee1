"""The journal, progress.json: how far a run of `prepare` has come, so that an interrupted one can resume.

It holds the settings, the modification times of the raw files, the place in them, the counts, and the length of every
unfinished file. Those files are synced before the journal is replaced, so it never refers to bytes that are not on
disk.
"""

import re
from contextlib import contextmanager

from tinygrad_lm.errors import DataError
from tinygrad_lm.files import replace, sealed_json

JOURNAL = "progress.json"
SEALED_KEYS = (b'"seal"', b'"mixture"')  # both come first, so even a truncated file can be recognised


def save_journal(out, state):
    """Replace the journal atomically."""
    with reporting_write_errors(out / JOURNAL):
        replace(out / JOURNAL, sealed_json(state))


@contextmanager
def reporting_write_errors(path):
    """Turn an OSError within the block into a DataError that names the path."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"prepare: cannot write {path}: {error.strerror or error}\n"
            "  hint : saved progress is not lost; free some space or fix the cause, and the same command resumes"
        ) from error


def differences(before, now, where=""):
    """A line for each changed setting. before, now: nested dicts; the order of their keys matters."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [f"{where}: {abbreviate(before)} before, {abbreviate(now)} now"]
    lines = []
    for key in dict.fromkeys([*before, *now]):
        lines += differences(before.get(key), now.get(key), f"{where}, {key}" if where else key)
    if not lines and list(before) != list(now):
        lines = [f"{where}: {', '.join(before)} before, {', '.join(now)} now: the order determines which copy is kept"]
    return lines


def abbreviate(value):
    """Shorten a checksum to 12 of its 64 digits; return other values unchanged."""
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value
