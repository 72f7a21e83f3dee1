"""The picture of a run: training and validation loss against steps, with the values that are known."""

from itertools import cycle

from tinygrad_lm.train.drawing import GREY, MARKERS, STYLES, finish, picture, training_curve

SOURCES = [f"C{i}" for i in range(2, 7)]  # C0 is training, C1 validation


def draw_losses(log, path, title, levels, floors, dark=False):
    """Draw training and validation loss against steps, and validation loss on each source if there are several.
    Stars are the losses on the whole validation texts, of which the curve may show a part.

    levels: {label: loss} for horizontal lines; floors: {source: loss or None} for lines in the colours of the sources;
    dark: for a dark page
    """
    with picture(path, title, (9, 5.6), dark) as figure:
        axes = figure.add_subplot()
        training_curve(axes, log, label="training")
        steps, losses = log.curve("validation")
        label = f"validation, lowest {min(losses):.3f}" if losses else "validation"
        axes.plot(steps, losses, "o-", color="C1", linewidth=2.5, markersize=6, label=label)
        steps, losses = log.curve("whole")
        if losses:
            axes.plot(steps, losses, "*", color="C1", markersize=14, label=f"validation, whole: {losses[-1]:.3f}")
        draw_sources(axes, log, floors)
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom", "size": "small"}
        place["annotation_clip"] = True
        for (name, value), style in zip(levels.items(), cycle([":", "-.", "--", "-"])):
            axes.axhline(value, linestyle=style, color=GREY, linewidth=1.2)
            axes.annotate(f"{name} {value:.3f}", (0.995, value), **place)
        if len(sources := log.curves("validation_sources")) > 1:  # they are near each other, so the first fall is cut
            losses = [loss for _, losses in sources.values() for loss in losses]
            axes.set_ylim(top=max(losses) + 0.8 * (max(losses) - min(losses)) + 0.01)
        finish(axes, "steps (updates made)", "loss, nats per token")


def draw_sources(axes, log, floors):
    """The validation loss on each source, if there are several, and the floors that are known."""
    sources, wholes = log.curves("validation_sources"), log.curves("whole_sources")
    for (name, (steps, losses)), colour, marker in zip(sources.items(), cycle(SOURCES), cycle(MARKERS[1:])):
        floor = floors.get(name)
        and_floor = "" if floor is None else f", floor {floor:.3f}"
        if len(sources) > 1:
            *_, last = wholes[name][1] if name in wholes else losses
            label = f"{name}, {last:.3f}{and_floor}"
            axes.plot(steps, losses, marker=marker, color=colour, markersize=5, linewidth=1.2, label=label)
            if name in wholes:
                axes.plot(*wholes[name], "*", color=colour, markersize=9)
        if floor is not None:
            label = None if len(sources) > 1 else f"{name}{and_floor}"
            axes.axhline(floor, linestyle=STYLES[0], color=colour, linewidth=1.5, label=label)
