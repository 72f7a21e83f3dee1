"""Compare runs: their validation curves in one picture, with what differs in their settings.

Prints a table of all settings that differ and of what came of each run; the legend of the picture has the first three.
"""

from itertools import cycle

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.files import check_picture_path
from tinygrad_lm.tables import aligned
from tinygrad_lm.train.drawing import MARKERS, STYLES, finish, picture
from tinygrad_lm.train.run import RunFolder

SHOWN, LONG = 3, 30  # settings in the legend, and characters of one, at most
NONE = "–"


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folders of runs")
    parser.add_argument("--out", default="compare.png", metavar="FILE", help="the picture [compare.png]")
    parser.add_argument("--against", choices=["steps", "tokens", "minutes"], default="steps", help="[steps]")
    parser.add_argument("--dark", action="store_true", help="draw for a dark page")


def compare_runs(args):
    """Print the table, write the picture. Returns the exit status."""
    path = check_picture_path("compare", "--out", args.out)
    runs = [RunFolder(run) for run in args.runs]
    check_comparable(runs, args.against)
    names, different = run_names(runs), differences([settings(run) for run in runs])
    for line in aligned([*table(runs, names, different)]):
        print(line)
    vocabularies = {run.tokenizer.fingerprint for run in runs}
    if len(vocabularies) > 1:
        print("\nnote: the vocabularies differ, and with them what a token is: their losses cannot be compared")
    draw_comparison(runs, names, different, path, args.against, args.dark)
    print(f"\n{path}")
    return 0


def check_comparable(runs, against):
    """Raise ConfigError unless the runs measure the same, and against what is known of all of them."""
    for run in runs:
        if measured(run) != measured(runs[0]):
            both = " and ".join(f"{', '.join(measured(each))} ({each.path})" for each in (runs[0], run))
            raise ConfigError(f"compare: these runs measure different things: {both}; compare those that do the same")
        if not run.log.curve("validation")[0]:
            raise ConfigError(f"compare: {run.path} has no evaluation yet; leave it out, or train it further")
        if against == "tokens" and "chat" in run.config:
            raise ConfigError(f"compare: the steps of {run.path} have any number of tokens; draw it against steps")
        if against == "minutes" and not minutes(run):
            raise ConfigError(f"compare: the log of {run.path} has no times; draw it against steps")


def measured(run):
    """(what its evaluations measure, unit)."""
    return tuple(run.config.get("measure", (RunFolder.measure, RunFolder.unit)))


def run_names(runs):
    """A name for each run: that of its folder, or the path where two folders have the same."""
    names = [run.path.resolve().name for run in runs]
    return [str(run.path) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]


def settings(run):
    """{name: value} of what was chosen for a run."""
    config = run.config
    found = {"title": config["title"]} | config["model"] | config["train"] | config["data"]
    found |= {"dtype": config["dtype"], "tokenizer": config["tokenizer"]["name"], "base": config.get("base")}
    for name in ("steps", "ending") if found.get("seconds") else ():
        del found[name]  # measured, not chosen
    return found


def differences(all_settings):
    """{name: values of all runs} of the settings in which runs differ; None where a run has none."""
    names = dict.fromkeys(name for each in all_settings for name in each)
    values = {name: [each.get(name) for each in all_settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def table(runs, names, different):
    """Rows: the settings that differ, and what came of each run."""
    yield ["", *names]
    for name, values in different.items():
        yield [name, *map(as_text, values)]
    yield ["steps made", *(f"{last_step(run):,}" for run in runs)]
    yield ["minutes", *(f"{minutes(run)[last_step(run)]:.1f}" if minutes(run) else NONE for run in runs)]
    measure, unit = measured(runs[0])
    yield [f"{measure}, {unit}: lowest", *(f"{min(run.log.curve('validation')[1]):.4f}" for run in runs)]
    wholes = [run.log.curve("whole")[1] for run in runs]
    if any(wholes):
        yield ["on the whole split", *(f"{losses[-1]:.4f}" if losses else NONE for losses in wholes)]


def as_text(value):
    """A setting's value, short."""
    if value is None:
        return NONE
    if isinstance(value, (list, tuple)):
        return "/".join(map(as_text, value)) or "none"
    if isinstance(value, str):
        return value if len(value) <= LONG else f"{value[: LONG - 1]}…"
    return f"{value:g}" if isinstance(value, float) else str(value)


def last_step(run):
    return max(record["step"] for record in run.log.records)


def minutes(run):
    """{step: minutes from the beginning of the run}, empty where the log has no times."""
    found = {record["step"]: record["elapsed"] / 60 for record in run.log.records if "elapsed" in record}
    return found and {0: 0.0} | found


def draw_comparison(runs, names, different, path, against="steps", dark=False):
    """Draw the validation curves of runs, and stars at the losses on the whole validation texts."""
    from matplotlib.ticker import EngFormatter

    measure, unit = measured(runs[0])
    with picture(path, f"{measure} of {len(runs)} runs", (9, 6.5), dark) as figure:
        axes = figure.add_subplot()
        for i, (run, name, marker) in enumerate(zip(runs, names, cycle(MARKERS))):
            steps, losses = run.log.curve("validation")
            style = {"color": f"C{i % 7}", "linestyle": ["-", *STYLES][i // 7 % 5], "marker": marker}
            label = f"{legend(name, i, different)}: {run.log.result()[0]:.3f}"
            axes.plot(positions(run, steps, against), losses, **style, linewidth=2.5, markersize=6, label=label)
            steps, losses = run.log.curve("whole")
            axes.plot(positions(run, steps, against), losses, "*", color=style["color"], markersize=14)
        units = {"steps": "steps (updates made)", "tokens": "tokens trained on", "minutes": "minutes of the run"}
        if against == "tokens":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        finish(axes, units[against], f"{measure}, {unit}")


def legend(name, i, different):
    """The name of run i, with the first of its settings that others do not have."""
    found = [f"{setting} {as_text(values[i])}" for setting, values in different.items()]
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return f"{name} ({', '.join(found[:SHOWN] + more)})" if found else name


def positions(run, steps, against):
    """Where along the axis steps are: themselves, the tokens of so many, or minutes."""
    train = run.train_config
    tokens = train.batch_size * train.accumulate * run.model_config.block_size
    if against == "tokens":
        return [step * tokens for step in steps]
    return [minutes(run)[step] for step in steps] if against == "minutes" else steps
