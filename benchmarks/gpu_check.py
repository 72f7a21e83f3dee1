"""Everything that a short visit to a GPU should answer, in one command. gpu_visit.md says how to spend the minutes.

    python benchmarks/gpu_check.py --list                           # the parts, and about how long each takes
    python benchmarks/gpu_check.py --out found.jsonl --minutes 9    # all of them, in order, until the time is up
    python benchmarks/gpu_check.py --out found.jsonl --parts kernels,steps:gpt2*compile --data tinyshakespeare.txt
    python benchmarks/gpu_check.py --out found.jsonl --table        # what is in the file
    python benchmarks/gpu_check.py --rehearse                       # without a GPU: every part at tiny sizes

Each part runs in a separate process and adds each of its findings to the file at once. If a process dies (an invalid
address leaves nothing in it that works), another continues after the finding at which it died.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import nullcontext
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

from gpu.report import answers, line, read, table

from tinygrad_lm.errors import DeviceError
from tinygrad_lm.kernels.cuda.driver import resolve_device

ROOT = Path(__file__).parents[1]
GO_ON = 3  # the status of a process that can do no more, where another could
# name: (what it answers, about how many minutes it takes, after how many it is stopped)
PARTS = {
    "environment": ("card, libraries, and the ceilings of a copy and a product", 0.5, 2),
    "tests": ("pytest -m gpu", 1, 3),
    "kernels": ("each kernel against its rule at real sizes, and its speed", 1, 3),
    "products": ("cuBLASLt at the shapes of a step, and PyTorch there", 0.5, 2),
    "steps": ("our steps beside PyTorch's in turns: time, tokens/s, memory, losses", 6, 9),
    "curves": ("losses on GPU and CPU, in bfloat16 and float32, replayed and not", 1, 3),
    "profile": ("where the time of a step goes, by kernel", 1, 3),
    "goal": ("seconds to validation loss 1.4697 on tiny Shakespeare", 2, 5),
    "batches": ("PyTorch's best batch size at GPT-2's shape", 4, 8),
    "sanitize": ("compute-sanitizer over each kernel at small sizes", 1.5, 5),
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check.jsonl"), help="the findings, a line each")
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help="names from --list, separated by commas; a pattern after a colon: those of its items alone",
    )
    parser.add_argument("--minutes", type=float, default=60, help="stop when so many are over")
    parser.add_argument("--data", type=Path, help="tiny Shakespeare; the built-in play if left out")
    parser.add_argument("--list", action="store_true", help="the parts")
    parser.add_argument("--table", action="store_true", help="print what --out holds, and measure nothing")
    parser.add_argument("--rehearse", action="store_true", help="at tiny sizes, on an emulator and the processor")
    parser.add_argument("--run", metavar="PART", help=argparse.SUPPRESS)  # in this process
    args = parser.parse_args(arguments)
    if args.list:
        for name, (what, minutes, _) in PARTS.items():
            print(f"{name:12} {minutes:4} min  {what}")
        return 0
    names = [args.run] if args.run else [name.strip() for name in args.parts.split(",")]
    if unknown := [name for name in names if name.partition(":")[0] not in PARTS]:
        parser.error(f"unknown parts {', '.join(unknown)}; expected some of {', '.join(PARTS)}")
    if args.run:
        return in_this_process(args)
    if args.table:
        print(table(read(args.out)))
        return 0
    if args.rehearse:
        args.out = Path(tempfile.mkdtemp(), "rehearsed.jsonl")
    else:
        try:
            resolve_device("cuda")
        except DeviceError as error:
            parser.error(str(error))
    args.out.unlink(missing_ok=True)
    ends = time.monotonic() + 60 * args.minutes
    for name in names:
        supervised(name, args, min(60 * PARTS[name.partition(":")[0]][2], ends - time.monotonic()))
    found = read(args.out)
    print("\n" + answers(found))
    failures = [record for record in found if "error" in record]
    for record in failures:
        print(f"failed: {record['part']}: {record['item']}: {record['error'].splitlines()[0][:200]}")
    print(f"{len(found)} findings, {len(failures)} failures, in {args.out}")
    return 1 if failures else 0


def supervised(name, args, seconds):
    """Run a part, or some of its items, in processes of their own until it is through, or the time is up."""
    part = name.partition(":")[0]
    ends = time.monotonic() + seconds
    command = [sys.executable, Path(sys.argv[0]).resolve(), "--run", name, "--out", args.out.resolve()]
    command += ["--rehearse"] * args.rehearse + (["--data", args.data.resolve()] if args.data else [])
    while (left := ends - time.monotonic()) > 5:
        before = len(read(args.out, begun=True))
        status = run(command, left)
        if status == 0:
            return
        lines = read(args.out, begun=True)[before:]
        if lines and lines[-1].get("begun"):  # it died there, so the next process continues after that
            note(args.out, {"part": part, "item": lines[-1]["item"], "error": f"its process ended: {status}"})
        elif status != GO_ON or not lines:
            note(args.out, {"part": part, "item": "the rest", "error": f"its process ended: {status}"})
            return
    note(args.out, {"part": part, "item": "the rest", "error": "not reached: the time is up"})


def run(command, seconds):
    """The exit status of a process, or that it was stopped with all that it started."""
    with subprocess.Popen(command, cwd=ROOT, process_group=0) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"stopped after {seconds:.0f} s"


def in_this_process(args):
    """The items of a part, those of its pattern if it has one, that the file does not have yet."""
    part, _, pattern = args.run.partition(":")
    done = {record["item"] for record in read(args.out) if record["part"] == part}
    with open_place(args.rehearse) as place:
        place.data = args.data
        for item, function in import_module(f"gpu.{part}").items(place):
            if item not in done and fnmatchcase(item, pattern or "*"):
                note(args.out, {"part": part, "item": item, "begun": True})
                note(args.out, {"part": part, "item": item, **outcome(function)})
                if not alive(place):
                    return GO_ON
    return 0


def open_place(rehearse):
    from gpu import place

    return place.rehearsal() if rehearse else nullcontext(place.Gpu())


def outcome(function):
    """A function's findings and how long they took; an exception is a finding too."""
    began = time.perf_counter()
    try:
        found = function()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:2000], "trace": traceback.format_exc()[-6000:]}
    return {**found, "took": time.perf_counter() - began}


def alive(place):
    """Whether the device still answers. Hands back memory for the next item."""
    try:
        place.synchronize()
        place.release()
    except Exception:
        return False
    return True


def note(path, record):
    """Add a line to the file, and show it."""
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")
    if not record.get("begun"):
        print(line(record), flush=True)


if __name__ == "__main__":
    sys.exit(main())
