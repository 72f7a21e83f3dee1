"""What the pictures of runs have in common: colours for light and dark pages, means without lag, known values.

Colours are Okabe and Ito's, which people with colour blindness can tell apart; what matters differs in style besides.
Text is large enough to be read at half the size.
"""

from contextlib import contextmanager
from itertools import cycle, pairwise

import numpy as np

from tinygrad_lm.files import replacing

# C0 … C6 of matplotlib's colour cycle: training, validation, and what is known or of one source. On a dark page the
# lighter of two similar ones come first.
LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555"]
DARK = ["#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#BBBBBB"]
GREY = "#808080"  # can be seen on both
NIGHT = "#0d1117"  # the background of a dark page; GitHub's
STYLES = ["--", ":", "-.", (0, (6, 2, 1, 2, 1, 2))]
MARKERS = "osD^vPX"
STRETCHES, GROWTH = 60, 3.0  # of a curve's means: how many, and ln(last length / first length)


@contextmanager
def picture(path, title, size, dark=False):
    """A Figure of a size in inches, to be saved at the end; dark: for a dark page."""
    from matplotlib import cycler, rc_context, style
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    colours = {"axes.prop_cycle": cycler(color=DARK if dark else LIGHT)}
    if dark:
        night = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), NIGHT)
        colours = dict(style.library["dark_background"]) | night | colours
    with rc_context(colours | {"font.size": 14}):
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        figure.suptitle(title, size="large")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary)


def stretches(count):
    """Slices that cut `count` values into at most 60 stretches, e³ times as long at the end as at the start: there a
    loss falls fast, and the mean of a long stretch would lie above the curve. Few values have fewer stretches, since
    the mean of one value is as noisy as that."""
    shares = np.linspace(0, 1, min(STRETCHES, 8 + count // 5) + 1)
    edges = np.expm1(GROWTH * shares) / np.expm1(GROWTH) * count
    edges = np.unique(np.rint(edges).astype(int)).tolist()
    return [slice(*pair) for pair in pairwise(edges)]


def means(x, y):
    """(x, y) of the mean of each stretch, drawn at its centre: no lag, and nothing beyond what was measured."""
    pieces = stretches(len(x))
    return tuple([float(np.mean(values[piece])) for piece in pieces] for values in (x, y))


def training_curve(axes, log, kind="loss", label=None):
    """Every step's value of a kind, faint, and their means. A step's loss is measured before its update, so it stands
    at the number of updates made until then, as an evaluation's does."""
    steps, values = log.curve(kind)
    smoothed(axes, [step - 1 for step in steps], values, label)


def smoothed(axes, x, y, label=None):
    """All values, faint, and the means of stretches."""
    axes.plot(x, y, color="C0", alpha=0.3, linewidth=0.8)
    axes.plot(*means(x, y), color="C0", linewidth=2.5, label=label)


def horizontal(axes, levels):
    """Lines at values that are known, {label: value}."""
    for (name, value), line in zip(levels.items(), cycle(STYLES)):
        label = f"{name}, {value:.3f}".replace("-", "−")
        axes.axhline(value, color="C2", linestyle=line, linewidth=2, label=label)


def finish(axes, xlabel="", ylabel="", title=""):
    """Label the axes, and put a legend there if anything has a label."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, size="medium")
    axes.grid(color=GREY, alpha=0.3)
    axes.margins(y=0.08)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")
