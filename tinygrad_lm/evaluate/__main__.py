"""Evaluate a language model as in the published papers, and print their numbers beside it.

python -m tinygrad_lm.evaluate runs/... --tasks text=my_text.txt
python -m tinygrad_lm.evaluate gpt2 --tasks lambada hellaswag --data DIR --out report.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.evaluate.files import find_files
from tinygrad_lm.evaluate.report import results_json, results_table
from tinygrad_lm.evaluate.tasks import TASKS
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.programs import program
from tinygrad_lm.threads import cores, workers


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_lm.evaluate",
        description=__doc__,
        epilog="tasks:\n" + "\n".join(f"  {name:18} {task.about}" for name, task in TASKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="the folder of a run or of a model, or a name such as gpt2")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="TASK, or TASK=FILE for another file")
    parser.add_argument("--data", default=".", metavar="DIR", help="the folder of the tasks' files [here]")
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate only the first N examples of each task [all]")
    parser.add_argument("--out", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--samples", metavar="DIR", help="write the generated texts to DIR/<task>.jsonl")
    parser.add_argument("--shots", type=int, default=0, metavar="K", help="solved examples in each prompt [0]")
    parser.add_argument("--stride", type=int, metavar="S", help="tokens by which the window slides [its length]")
    parser.add_argument("--batch-size", type=int, default=1, metavar="B", help="whole windows of tokens per batch [1]")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="[auto]")
    args = parser.parse_args(arguments)
    with explained("a smaller --batch-size, or --device cpu"):
        evaluate_tasks(args)


def evaluate_tasks(args):
    """Evaluate, print and write what the command line asks for."""
    chosen = chosen_tasks(args.tasks, args.shots)
    if args.out and not Path(args.out).resolve().parent.is_dir():
        raise ConfigError(f"report: {args.out} is in a folder that does not exist; create it, or choose another")
    paths = locate_files(chosen, args.data)
    examples = {name: TASKS[name].read_examples(*paths[name]) for name in chosen}
    device = resolve_device(args.device)
    model, tokenizer = load_pretrained(args.model, device)
    options = {name: getattr(args, name) for name in ("limit", "shots", "batch_size")}
    options["stride"] = args.stride if args.stride is not None else model.config.block_size
    evaluator = Evaluator(model, tokenizer, **options, samples=args.samples and Path(args.samples))
    rows = []
    try:
        with workers(cores() if device == "cpu" else 1):
            for name in chosen:
                start = time.perf_counter()
                results = TASKS[name].evaluate(evaluator, examples.pop(name))
                rows += [(name, result, time.perf_counter() - start) for result in results]
    finally:  # results from before an error or Ctrl-C are worth keeping
        if rows:
            print(results_table(rows))
        if rows and args.out:
            options |= {"model": args.model, "device": device, "tasks": list(chosen)}
            write_report(args.out, results_json(rows, **options))


def chosen_tasks(arguments, shots):
    """{task name: its paths, [] for the usual ones}"""
    chosen = {}
    for argument in arguments:
        name, _, paths = argument.partition("=")
        if name in chosen:
            raise ConfigError(f"tasks: {name} is given twice")
        chosen[name] = paths.split(",") if paths else []
    if unknown := [name for name in chosen if name not in TASKS]:
        raise ConfigError(f"tasks: {', '.join(unknown)} unknown; expected some of {', '.join(TASKS)}")
    if shots and (without := [name for name in chosen if not TASKS[name].shots]):
        able = ", ".join(name for name, task in TASKS.items() if task.shots)
        raise ConfigError(f"shots: {', '.join(without)} cannot have solved examples in its prompt; {able} can")
    return chosen


def locate_files(chosen, folder):
    """{task name: the paths of its files}. One DataError lists all missing files."""
    paths, problems = {}, []
    for name, given in chosen.items():
        try:
            paths[name] = find_files(name, TASKS[name].files, folder, given)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return paths


def write_report(path, report):
    try:
        Path(path).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"report: cannot write {path}: {error.strerror}; choose another file") from error


if __name__ == "__main__":
    sys.exit(main())
