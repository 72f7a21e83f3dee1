"""Write the logs of runs as TensorBoard's events, by its own library, and look at them there: tensorboard --logdir runs

The events of a run go into its folder tensorboard/, where they replace older ones; the training loop knows nothing of
it. Each number of log.jsonl becomes a scalar, with its step. Times are seconds since the run began, without pauses, so
that the axis "Relative" has the run's own clock.
"""

from contextlib import closing

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.train.run import RunFolder


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folders of runs, which may be training")


def write_events(args):
    """Write the events of each run, and print where. Returns the exit status."""
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise ConfigError(f"tensorboard: {error}; pip install 'tinygrad-lm[tensorboard]'") from None
    runs = [RunFolder(run) for run in args.runs]
    points = [list(scalars(run.log.records)) for run in runs]  # all are read before anything is written
    for run, found in zip(runs, points, strict=True):
        if not found:
            raise ConfigError(f"tensorboard: {run.path} has no step yet; leave it out, or train it further")
    for run, found in zip(runs, points, strict=True):
        folder = run.path / "tensorboard"
        older = list(folder.glob("events.out.tfevents.*"))
        with closing(Writer(str(folder))) as writer:
            for name, value, step, seconds in found:
                writer.add_scalar(name, value, step, wall_time=seconds)
        for path in older:
            path.unlink()
        print(f"{folder}: {len(found):,} numbers of {len({name for name, *_ in found}):,} curves")
    return 0


def scalars(records):
    """(name, value, step, seconds since the run began) of each number in the records of a log; an evaluation has the
    time of the step before it."""
    seconds = 0.0
    for record in records:
        seconds = record.get("elapsed", seconds)
        for name, value in numbers(record):
            if name not in ("step", "elapsed"):
                yield name, value, record["step"], seconds


def numbers(content, head=""):
    """("validation_sources/plays", 1.5), …: the numbers in nested objects, by the path of their names."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{head}{name}/")
        else:
            yield f"{head}{name}", value
