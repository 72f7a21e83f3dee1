"""How many files a reader opens between the training loop and the arithmetic.

    python benchmarks/hops.py                        # examples/pretrain_shakespeare.py of this tree
    python benchmarks/hops.py ANOTHER_TREE           # that of a tree elsewhere, such as an earlier commit

It runs the main job for two steps with sys.setprofile, on one core, by the definitions where they can be had alone, and
counts files of the package and the program from the moment that a training step begins.
"""

import importlib
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

STEPS = [("examples/pretrain_shakespeare.py", "update"), ("tinygrad_lm/train/loop.py", "step")]  # now, and before


class Hops:
    """A profile function. Files by name from `root`, in the order in which they are entered:

    before   from the start of the program to the first matrix product
    entered  from the start of the step to there
    way      those of them that are on the call stack there, from the loop to the product
    changes  how often a call goes from one file to another, in the first step to the product and in each whole step
    """

    def __init__(self, root):
        self.root = f"{root}{os.sep}"
        self.before, self.entered, self.way, self.last = [], [], None, None
        self.changes, self.to_product, self.step = [], None, None

    def __call__(self, frame, event, argument):
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(self.root) or code.co_name == "<module>":
            return
        file = code.co_filename.removeprefix(self.root)
        if (file, code.co_name) in STEPS:
            self.step = frame if event == "call" else None
            self.changes += [0] if event == "call" else []
        if event == "return":
            return
        if self.step is not None:
            self.changes[-1] += file != self.last
        self.last = file
        if self.way is None:
            self.before += [file] if file not in self.before else []
            if self.step is not None:
                self.entered += [file] if file not in self.entered else []
                if file.endswith("matmul.py"):
                    self.way, self.to_product = self.stack(frame), self.changes[-1]

    def stack(self, frame):
        """The files from the step to a frame."""
        files = []
        while frame is not self.step.f_back:
            file = frame.f_code.co_filename.removeprefix(self.root)
            files += [file] if file not in files else []
            frame = frame.f_back
        return files[::-1]


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    sys.path[:0] = [str(root), str(root / "examples")]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread, so one stack
    program, kernels = map(importlib.import_module, ("pretrain_shakespeare", "tinygrad_lm.kernels"))
    kernels.enable = lambda: None
    hops = Hops(root)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        options = ["--data", "built-in", "--preset", "modern-tiny", "--steps", "2", "--device", "cpu", "--out"]
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            program.main([*options, f"{folder}/first"])  # imports what it needs
            sys.setprofile(hops)
            try:
                program.main([*options, f"{folder}/second"])
            finally:
                sys.setprofile(None)
    print(f"{len(hops.way)} files on the way from the step to the first product: {', '.join(hops.way)}")
    print(
        f"{len(hops.entered)} files in which something ran in the step by then, with {hops.to_product} changes of file"
    )
    print(f"{len(hops.before)} files in which something ran since the program began")
    print(f"{hops.changes[-1]:,} changes of file in a whole step")


if __name__ == "__main__":
    main()
