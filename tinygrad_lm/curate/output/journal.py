"""How far a preparation is: progress.json, all or nothing, which a killed one goes on from.

It holds the settings, the times of the raw files, the place in them, the counts, and the length of every file in the
making. These are brought to the disk before it is replaced, so it never tells of bytes that are not there.
"""

import json
import re
from contextlib import contextmanager

from tinygrad_lm.errors import DataError
from tinygrad_lm.files import replace, seal

JOURNAL = "progress.json"
SEALED_KEYS = (b'"seal"', b'"mixture"')  # both come first, so what is left of a file tells whose it was


def save_journal(out, state):
    with reporting_write_errors(out / JOURNAL):
        replace(out / JOURNAL, sealed_json(state))


def sealed_json(state, indent=None):
    return json.dumps({"seal": seal(state)} | state, indent=indent).encode()


@contextmanager
def reporting_write_errors(path):
    """The place of a failed write, and that nothing is lost by it."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"prepare: cannot write {path}: {error.strerror or error}\n"
            "  hint : nothing that was saved is lost; make room or mend it, and the same command goes on from there"
        ) from error


def differences(before, now, where=""):
    """A line for each setting that is another than before. Both are nested dicts, the order of whose keys counts."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [f"{where}: {abbreviate(before)} before, {abbreviate(now)} now"]
    lines = []
    for key in dict.fromkeys([*before, *now]):
        lines += differences(before.get(key), now.get(key), f"{where}, {key}" if where else key)
    if not lines and list(before) != list(now):
        lines = [f"{where}: {', '.join(before)} before, {', '.join(now)} now: the order decides which copy is kept"]
    return lines


def abbreviate(value):
    """Twelve of the 64 digits of a sum tell it from others; other values as they are."""
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value
