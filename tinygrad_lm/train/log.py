"""The log of a run: one JSON line a step or evaluation."""

import json
import os
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from tinygrad_lm.errors import CheckpointError
from tinygrad_lm.files import replace

OF_SOURCES = ("validation_sources", "whole_sources", "sources")
# What every message about a damaged log ends with.
DAMAGED = (
    "hint : restore the file from a copy; its checkpoints are not affected: the model can be used, and a new run can "
    "begin with it"
)


class Log:
    """The file log.jsonl. A record has `step`, the number of updates made, and one of three kinds of content.

    loss        training loss before the update, with `norm`, the gradient's, `position` in the run's plan (pace.py),
                `rate_factor`, what the learning rates were multiplied by, `seconds`, and `elapsed`, all of the run's
                seconds until then
    validation  with `validation_sources`, the loss on each source, and `sources`, what was used of each: a point of the
                curve, which may be of a part of the validation texts
    whole       with `whole_sources`, the same on the whole texts, measured once, at the end: the run's result
    """

    def __init__(self, path):
        self.path = Path(path)
        self.records = list(records_in(self.path)) if self.path.exists() else []

    def check_steps(self, done, figures):
        """Raise CheckpointError unless every step, of which there are at least `done`, has one line with these figures:
        a resumed run builds on them (pace.py)."""
        steps = [record["step"] for record in self.records if all(name in record for name in figures)]
        for expected, found in zip_longest(range(1, max(done, len(steps)) + 1), steps):
            if found != expected:
                problem = f"expected a line with {' and '.join(figures)} of step {expected:,}"
                there = "none" if found is None else f"that of step {found:,}"
                raise CheckpointError(f"run: {self.path} is damaged: {problem}, found {there}\n  {DAMAGED}")

    def rewind(self, step):
        """Forget what came after a step: a run that resumes there writes it again."""
        self.records = [record for record in self.records if record["step"] <= step]
        self.rewrite()

    def rewrite(self):
        """Write all records into the file."""
        replace(self.path, "".join(json.dumps(record) + "\n" for record in self.records).encode())

    def write(self, **record):
        self.records.append(record)
        self.append(record)

    def append(self, record):
        """Write a record at the end of the file."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def sync(self):
        """Sync the file to disk, as a checkpoint is: a run is resumed from both."""
        with open(self.path, "ab") as file:
            os.fsync(file.fileno())

    def curve(self, kind):
        """Steps and values of all records of a kind, 'loss' or 'validation'."""
        points = [(record["step"], record[kind]) for record in self.records if kind in record]
        return [step for step, _ in points], [value for _, value in points]

    def result(self):
        """The loss that counts now, and {source: loss}: on the whole validation texts, or by the last evaluation."""
        kinds = ("whole", "validation")
        record, kind = next((record, kind) for record in reversed(self.records) for kind in kinds if kind in record)
        return record[kind], record.get(f"{kind}_sources", {})

    def curves(self, kind):
        """{source: (steps, values)} of all records of a kind that has values by source, 'validation_sources'."""
        found = {}
        for record in self.records:
            for name, value in record.get(kind, {}).items():
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
        return found


def records_in(path):
    """The records of a log. CheckpointError for a damaged line; a last one that a crash cut short is left out."""
    *lines, rest = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield checked(json.loads(line.decode()))
        except ValueError as error:
            raise CheckpointError(f"run: line {number:,} of {path} is damaged: {error}\n  {DAMAGED}") from None
    with suppress(ValueError):
        yield checked(json.loads(rest.decode()))


def checked(record):
    """The record, if it can be a step's or an evaluation's. Raises ValueError."""
    if not isinstance(record, dict):
        raise ValueError(f"expected a JSON object, found {record!r:.100}")
    if type(record.get("step")) is not int or record["step"] < 0:
        raise ValueError(f"step must be a number of updates, found {record.get('step')!r:.100}")
    for name, value in record.items():
        kind, types = ("an object", (dict,)) if name in OF_SOURCES else ("a number", (int, float))
        if type(value) not in types:
            raise ValueError(f"{name} must be {kind}, found {value!r:.100}")
    return record


def settled(log, patience):
    """Whether the last `patience` evaluations have all failed to improve on the best before them."""
    losses = log.curve("validation")[1]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])
