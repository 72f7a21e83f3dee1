"""The training doctor's findings as one picture."""

import math
import re

import numpy as np

from tinygrad_lm.learn.doctor.log_findings import MARKS
from tinygrad_lm.train.drawing import GREY, finish, picture, training_curve

COLOURS = {"fine": "C2", "look": "C4", "wrong": "C1"}  # of the frame; the mark says the same


def draw(run, findings, path):
    """Draw nine panels; the colour of a panel's frame and the mark before its title are its verdict."""
    found = {finding.title: finding for finding in findings}
    panels = [
        ("validation against training", losses, "steps", "nats per token"),
        ("gradient norm over the run", norms, "steps", "norm"),
        ("overfitting one sequence", sequence, "steps", "nats per token"),
        ("update of a step / weights", ratios, "‖Δw‖ / ‖w‖", ""),
        ("gradients across depth", depth, "block", "gradient norm"),
        ("attention entropy", heads, "head", "layer"),
        ("dead hidden units", dead, "layer", "% of the units"),
        ("size of the logits", logits, "logit − mean of its position", "how many"),
        ("tokens of the vocabulary in use", tokens, "rank", "times in the training text"),
    ]
    with picture(path, f"{run.config['title']}: {run.path.name}", (18, 14)) as figure:
        for axes, (title, panel, xlabel, ylabel) in zip(figure.subplots(3, 3).flat, panels, strict=True):
            others = ["loss at the start", "learning rate, by the log"] if panel is losses else []
            verdicts = [found[each].verdict for each in [title, *others]]
            verdict = max(verdicts, key=list(COLOURS).index)
            panel(axes, found, run)
            finish(axes, xlabel, ylabel, f"{MARKS[verdict]} {title}")
            for spine in axes.spines.values():
                spine.set(color=COLOURS[verdict], linewidth=3)


def losses(axes, found, run):
    training_curve(axes, run.log, label="training")
    axes.plot(*run.log.curve("validation"), "o-", color="C1", label="validation")
    if run.log.curve("whole")[0]:
        axes.plot(*run.log.curve("whole"), "*", color="C1", markersize=11, label="validation, whole")
    axes.axhline(found["loss at the start"].numbers["expected"], color=GREY, linestyle=":", label="ln V")
    if spikes := found["learning rate, by the log"].numbers["spikes"]:
        steps, values = run.log.curve("loss")
        axes.plot([steps[i] - 1 for i in spikes], [values[i] for i in spikes], "x", color="C3", label="spike")


def norms(axes, found, run):
    training_curve(axes, run.log, "norm")
    if clip := found["gradient norm over the run"].numbers["clip"]:
        axes.axhline(clip, color=GREY, linestyle=":", label=f"clip {clip:g}")
    logarithmic(axes)


def logarithmic(axes):
    """Make the vertical axis logarithmic, with plain numbers as ticks, also between powers of ten if those are few."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}" if high < 8 * low else "")


def sequence(axes, found, run):
    values = found["overfitting one sequence"].numbers["losses"]
    axes.plot(range(1, len(values) + 1), values, color="C0")
    axes.axhline(0.1, color=GREY, linestyle=":", label="learned by heart")
    axes.set_ylim(bottom=0)


def ratios(axes, found, run):
    """Draw a row for each kind of matrix and a dot for each layer, later layers darker."""
    groups = {}
    for name, ratio in found["update of a step / weights"].numbers.items():
        kind = re.sub(r"^h\.\d+\.", "", name).removesuffix(".weight")
        groups.setdefault(kind, []).append(ratio)
    for row, values in enumerate(groups.values()):
        shades = np.linspace(0.35, 1, len(values))
        axes.scatter(values, [row] * len(values), color="C0", alpha=shades, s=22)
    axes.set_yticks(range(len(groups)), groups, size="small")
    axes.set_xscale("log")
    axes.set_xlim(*limits(found["update of a step / weights"].numbers.values()))
    axes.axvspan(1e-5, 1e-1, color="C2", alpha=0.08)
    axes.axvline(1e-3, color=GREY, linestyle=":")
    axes.invert_yaxis()


def limits(values):
    """A range for a logarithmic axis that contains the usual values and those found."""
    positive = [value for value in values if 0 < value < math.inf]
    return min([3e-6, *(v / 2 for v in positive)]), max([3e-1, *(v * 2 for v in positive)])


def depth(axes, found, run):
    values = found["gradients across depth"].numbers["blocks"]
    axes.bar(range(len(values)), values, color="C0")
    axes.set_xticks(range(len(values)))
    if values and all(0 < value < math.inf for value in values):
        axes.set_ylim(min(values) / 2, max(values) * 2)
        logarithmic(axes)


def heads(axes, found, run):
    values = np.array(found["attention entropy"].numbers["heads"])
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto", zorder=3)  # above the grid
    axes.figure.colorbar(image, ax=axes, label="of ln(keys seen)")
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    if values.size <= 64:
        for (layer, head), value in np.ndenumerate(values):
            axes.text(
                head, layer, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.6 else "k", size="small"
            )


def dead(axes, found, run):
    values = [100 * share for share in found["dead hidden units"].numbers.values()]
    axes.bar(range(len(values)), values, color="C0")
    axes.set_xticks(range(len(values)))
    axes.set_ylim(0, max([10, *values]) * 1.1)
    for layer, value in enumerate(values) if len(values) <= 12 else ():
        axes.annotate(f"{value:.0f}", (layer, value), ha="center", va="bottom", size="small")


def logits(axes, found, run):
    numbers = found["size of the logits"].numbers
    axes.stairs(numbers["counts"], numbers["edges"], fill=True, color="C0")
    axes.set_yscale("symlog", linthresh=1)


def tokens(axes, found, run):
    numbers = found["tokens of the vocabulary in use"].numbers
    axes.plot(numbers["ranks"], numbers["counts"], ".-", color="C0")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 2 * max(numbers["counts"]))
