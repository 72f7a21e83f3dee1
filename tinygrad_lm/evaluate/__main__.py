"""Evaluate a language model as the papers did, and print what they published beside it.

python -m tinygrad_lm.evaluate runs/... --tasks text=my_text.txt
python -m tinygrad_lm.evaluate gpt2 --tasks lambada hellaswag --data DIR --out report.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tinygrad_lm import kernels
from tinygrad_lm.backend import resolve_device
from tinygrad_lm.errors import ConfigError, DataError, TinygradError
from tinygrad_lm.evaluate.evaluation import Evaluation
from tinygrad_lm.evaluate.reading import find
from tinygrad_lm.evaluate.report import as_json, table
from tinygrad_lm.evaluate.tasks import TASKS
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.pretrained.load import load
from tinygrad_lm.threads import cores, workers


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_lm.evaluate",
        description=__doc__,
        epilog="tasks:\n" + "\n".join(f"  {name:18} {task.about}" for name, task in TASKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="the folder of a run or of a model, or a name such as gpt2")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="TASK, or TASK=FILE for another file")
    parser.add_argument("--data", default=".", metavar="DIR", help="where the tasks' files are [here]")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N examples of each task only [all]")
    parser.add_argument("--out", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--samples", metavar="DIR", help="write what the model writes to DIR/<task>.jsonl")
    parser.add_argument("--shots", type=int, default=0, metavar="K", help="solved examples in front of each [0]")
    parser.add_argument("--stride", type=int, metavar="S", help="tokens by which the window slides [its length]")
    parser.add_argument("--batch-size", type=int, default=1, metavar="B", help="whole windows of tokens a batch [1]")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    args = parser.parse_args(arguments)
    try:
        with explained("a smaller --batch-size, or --device cpu"):
            run(args)
    except KeyboardInterrupt:
        return 130
    except (TinygradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(args):
    """Evaluate, print and write what the command line asks for."""
    wanted = chosen(args.tasks, args.shots)
    if args.out and not Path(args.out).resolve().parent.is_dir():
        raise ConfigError(f"report: {args.out} is in a folder that does not exist; make it, or choose another")
    paths = locate(wanted, args.data)
    items = {name: TASKS[name].read(*paths[name]) for name in wanted}
    device = resolve_device(args.device)
    kernels.enable()
    model, tokenizer = load(args.model, device)
    settings = {name: getattr(args, name) for name in ("limit", "shots", "batch_size")}
    settings["stride"] = args.stride if args.stride is not None else model.config.block_size
    evaluation = Evaluation(model, tokenizer, **settings, samples=args.samples and Path(args.samples))
    rows = []
    try:
        with workers(cores() if device == "cpu" else 1):
            for name in wanted:
                start = time.perf_counter()
                results = TASKS[name].run(evaluation, items.pop(name))
                rows += [(name, result, time.perf_counter() - start) for result in results]
    finally:  # what was evaluated before an error or Ctrl-C is worth keeping
        if rows:
            print(table(rows))
        if rows and args.out:
            settings |= {"model": args.model, "device": device, "tasks": list(wanted)}
            write(args.out, as_json(rows, **settings))


def chosen(arguments, shots):
    """{task name: its paths, [] for the usual ones}"""
    wanted = {}
    for argument in arguments:
        name, _, paths = argument.partition("=")
        if name in wanted:
            raise ConfigError(f"tasks: {name} is asked for twice")
        wanted[name] = paths.split(",") if paths else []
    if unknown := [name for name in wanted if name not in TASKS]:
        raise ConfigError(f"tasks: {', '.join(unknown)} unknown; expected some of {', '.join(TASKS)}")
    if shots and (without := [name for name in wanted if not TASKS[name].shots]):
        able = ", ".join(name for name, task in TASKS.items() if task.shots)
        raise ConfigError(f"shots: {', '.join(without)} cannot have solved examples in front; {able} can")
    return wanted


def locate(wanted, folder):
    """{task name: the paths of its files}, or one error that names all the missing ones."""
    paths, problems = {}, []
    for name, given in wanted.items():
        try:
            paths[name] = find(name, TASKS[name].sources, folder, given)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return paths


def write(path, report):
    try:
        Path(path).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"report: cannot write {path}: {error.strerror}; choose another file") from error


if __name__ == "__main__":
    sys.exit(main())
