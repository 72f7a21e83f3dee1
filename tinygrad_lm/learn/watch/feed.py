"""What a page shows of a run that is under way, read from its folder while another process writes there."""

import json
import math
from statistics import median

from tinygrad_lm.learn.doctor.log_findings import FINE, first_loss, norm_curve, spikes, validation_curve
from tinygrad_lm.learn.doctor.posttraining import examine_log
from tinygrad_lm.train.log import Log, checked
from tinygrad_lm.train.run import RunFolder

POINTS, SAMPLES, RECENT = 600, 3, 10  # of a curve at most; shown; steps by which the speed is known


class Feed:
    """feed() -> {name: what is shown}, JSON-able, of the run in a folder; only what is new in its log is read."""

    def __init__(self, path):
        self.run = RunFolder(path)
        self.run.log = Log(self.run.path / "no log yet")
        self.file, self.read = None, 0  # which file it was, and how many bytes of it are read

    def __call__(self):
        self.follow()
        run, log, plan = self.run, self.run.log, self.run.train_config
        made = [record for record in log.records if "seconds" in record]
        last = made[-1] if made else {"step": 0}
        done = last.get("position", last["step"] - 1) + 1 if made else 0
        name = "loss" if log.curve("loss")[0] else "reward"
        return {
            "title": run.config["title"],
            "path": str(run.path),
            "measure": run.measure,
            "unit": run.unit,
            "step": last["step"],
            "share": min(1.0, done / plan.steps),
            "left": last["elapsed"] * (plan.steps / done - 1) if done and "elapsed" in last else None,
            "tokens": self.tokens_a_second(made),
            "name": name,
            "curve": means(*log.curve(name)),
            "norm": means(*log.curve("norm")),
            "validation": points(*log.curve("validation")),
            "sources": {name: points(*curve) for name, curve in log.curves("validation_sources").items()},
            "levels": run.config["levels"],
            "floors": {name: floor for name, floor in run.config["floors"].items() if floor is not None},
            "samples": self.samples(),
            "findings": self.findings(made),
        }

    def follow(self):
        """Read what has been written to the log since the last time, or all of it if it is another file."""
        path = self.run.path / "log.jsonl"
        if not path.exists():
            return
        with open(path, "rb") as file:
            found = path.stat().st_ino
            if found != self.file:  # a resumed run has written it anew
                self.file, self.read, self.run.log.records = found, 0, []
            file.seek(self.read)
            whole, _, _ = file.read().rpartition(b"\n")
        self.run.log.records += [checked(json.loads(line)) for line in whole.splitlines()]
        self.read += len(whole) + bool(whole)

    def tokens_a_second(self, made):
        """The speed of the last steps, None before there are any, or where a step has no fixed number of tokens."""
        plan = self.run.train_config
        if not made or self.run.model_config.block_size is None or "chat" in self.run.config:
            return None
        tokens = plan.batch_size * plan.accumulate * self.run.model_config.block_size
        return tokens / median(record["seconds"] for record in made[-RECENT:])

    def samples(self):
        """The last samples, [(step, text), …], the newest first."""
        path = self.run.path / "samples.txt"
        parts = path.read_text("utf-8", "replace").split("\n--- step ") if path.exists() else []
        cut = [part.removeprefix("--- step ").partition("\n") for part in reversed(parts[-SAMPLES:])]
        return [(head, text.strip()) for head, _, text in cut]

    def findings(self, made):
        """The doctor's findings that need the log alone, [(verdict, title, value, advice), …]."""
        run, log = self.run, self.run.log
        if not made or not log.curve("validation")[0]:
            return []
        if of_posttraining := examine_log(run):
            _, found = of_posttraining
        else:
            found = [first_loss(log, run.model_config.vocab_size, "base" in run.config), validation_curve(log)]
            found += [spikes(log), norm_curve(log, run.train_config.clip)]
        return [(x.verdict, x.title, x.value, x.advice if x.verdict != FINE else "") for x in found]


def points(steps, values):
    """A curve as a list of its points. What is not finite is left out."""
    return [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]


def means(steps, values):
    """A curve as at most POINTS points: the mean of each stretch, at its middle. What is not finite is left out."""
    size, found = math.ceil(len(steps) / POINTS) or 1, []
    for i in range(0, len(steps), size):
        if stretch := points(steps[i : i + size], values[i : i + size]):
            found.append(tuple(sum(x) / len(stretch) for x in zip(*stretch, strict=True)))
    return found
