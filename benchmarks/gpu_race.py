"""A training step's contenders on a GPU, each in a process of its own: all warm up at the same time, then take turns.

    python benchmarks/gpu_race.py gpt2                            # ours, PyTorch eager, torch.compile, reduce-overhead
    python benchmarks/gpu_race.py nanogpt-shakespeare --contenders ours,tuned,reduce-overhead --profile ours
    python benchmarks/gpu_race.py gpt2 --contenders ours,compile --beside ../before     # and ours of another checkout

gpu_check.py's `steps` measures the same one after the other; this takes a minute where that takes six, and memory for
all at once. `tuned` is ours with the fastest algorithm for each product, timed when the others are ready and wait.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve()
THEIRS = {"eager": None, "compile": "default", "reduce-overhead": "reduce-overhead"}
COUNT = 10  # steps a turn


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=["gpt2", "nanogpt-shakespeare"])
    parser.add_argument(
        "--contenders", default=",".join(["ours", *THEIRS]), help="of ours, tuned, " + ", ".join(THEIRS)
    )
    parser.add_argument("--beside", nargs="*", default=[], help="other checkouts, of which ours runs, too")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--profile", default="", metavar="NAME", help="at last, where this contender's time goes")
    parser.add_argument("--rehearse", action="store_true", help="at tiny sizes, on an emulator and the processor")
    parser.add_argument("--serve", metavar="CONTENDER", help=argparse.SUPPRESS)  # in this process
    args = parser.parse_args(arguments)
    if args.serve:
        return serve(args)
    names = args.contenders.split(",")
    if unknown := set(names) - {"ours", "tuned", *THEIRS}:
        parser.error(f"unknown contenders {', '.join(sorted(unknown))}; expected ours, tuned, {', '.join(THEIRS)}")
    if missing := [path for path in args.beside if not Path(path, "tinygrad_lm").is_dir()]:
        parser.error(f"{missing[0]} is no checkout: it has no folder tinygrad_lm")
    found = race(args, names)
    for name, times in found.items():
        median = statistics.median(times)
        print(f"{name:24} {median:9.3f} ms, {min(times):.3f} to {max(times):.3f}", flush=True)
    return 0 if len(found) == len(names) + len(args.beside) else 1


def race(args, names):
    """{contender: milliseconds a step, of each turn}; who fails is named and left out."""
    roots = dict.fromkeys(names, HERE.parents[1]) | {path: Path(path).resolve() for path in args.beside}
    late = [name for name in names if name == "tuned"]
    running, times = {}, {}
    for group in ([name for name in roots if name not in late], late):
        running |= {name: Contender(args, "ours" if name in args.beside else name, roots[name]) for name in group}
        for name in group:
            heard(running, name)
    for _ in range(args.rounds):
        for name in list(running):
            running[name].says(f"run {COUNT}")
            if answer := heard(running, name):
                times.setdefault(name, []).append(answer["ms"])
    if args.profile in running:
        running[args.profile].says("profile")
        if answer := heard(running, args.profile):
            print(f"{answer['us a step']:.0f} us a step in kernels\n{answer['table']}")
    for contender in running.values():
        contender.ends()
    return times


def heard(running, name):
    """What a contender answers; one that has died is told of, and leaves."""
    answer = running[name].hears()
    if answer is None:
        print(f"{name} failed:\n{running.pop(name).ends()}", flush=True)
    elif "ms" not in answer and "table" not in answer:
        print(f"{name} is ready: {answer}", flush=True)
    return answer


class Contender:
    def __init__(self, args, kind, root):
        paths = [str(root), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, HERE, args.preset, "--serve", kind, *["--rehearse"] * args.rehearse]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        self.process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ":".join(paths)}, **pipes)

    def says(self, text):
        with suppress(BrokenPipeError):  # it is dead, as the next answer shows
            print(text, file=self.process.stdin, flush=True)

    def hears(self):
        """The next answer, or None. Lines of anything else are libraries'."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        return None

    def ends(self):
        """The last that it told of what went wrong."""
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate()
        with self.log:
            self.log.seek(0)
            return self.log.read()[-2000:]


def serve(args):
    """Be a contender: warm up, then do what is asked for."""
    from gpu_check import open_place

    with open_place(args.rehearse) as place:
        contender, findings = prepared(place, args.preset, args.serve)
        answers(findings)
        first = COUNT
        for line in sys.stdin:
            match line.split():
                case ["run", count]:
                    from gpu.contenders import timed

                    answers({"ms": 1e3 * timed(place, contender, first, int(count))})
                    first += int(count)
                case ["profile"]:
                    from gpu.profile import of_kernels

                    found = of_kernels(place, contender, first)
                    answers({key: found[key] for key in ("us a step", "table")})
    return 0


def prepared(place, preset, kind):
    from gpu.contenders import Ours, Task, Theirs, started
    from gpu.steps import TASKS

    from tinygrad_lm.kernels.cuda import cublaslt_plan

    task = Task(place, preset, TASKS[preset])
    if kind == "tuned":
        contender = Ours(task)
        with cublaslt_plan.tuning():
            contender.run(0, 2)  # not captured yet
        contender.run(2, COUNT - 2)
        return contender, {}
    mode = None if place.tiny else THEIRS.get(kind)
    findings, contender = started(task, Ours if kind == "ours" else lambda task: Theirs(task, mode), COUNT)
    return contender, {"GB": findings["GB"], "first loss": findings["losses"][0]}


def answers(found):
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
