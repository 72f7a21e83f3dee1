"""Write a file with an operation whose way back is left out, for you to fill in

With no NAME the exercises are listed, the easy ones first.
"""

import ast
import inspect
from pathlib import Path

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.puzzles.solutions import EXERCISES

HEADER = '''"""Exercise: the way back of {name}. Fill in `backward`, then run

    python -m tinygrad_lm.learn check {path}

dy is the gradient of some loss by y, of y's shape. Return a tuple with one gradient for each input, in their order,
each of its input's dtype, and of its shape, or of that it was broadcast to: the engine sums it back. Change neither dy
nor the inputs: others hold them, too.
"""

import math

import numpy as np


'''


def add_arguments(parser):
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(EXERCISES))
    parser.add_argument("--out", metavar="FILE", help="[NAME_exercise.py]")


def run(args):
    if args.name is None:
        for name, rule in EXERCISES.items():
            print(f"  {name:<15}{inspect.getdoc(rule).split('        ')[0]}")
        print("\npython -m tinygrad_lm.learn exercise NAME [--out FILE]")
        return 0
    if args.name not in EXERCISES:
        raise ConfigError(f"exercise: {args.name!r} is unknown; expected one of {', '.join(EXERCISES)}")
    path = Path(args.out or f"{args.name}_exercise.py")
    try:
        with open(path, "x", encoding="utf-8") as file:  # "x": what somebody has solved there is not lost
            file.write(HEADER.format(name=args.name, path=path) + unsolved(args.name))
    except FileExistsError:
        raise ConfigError(f"exercise: {path} exists already; delete it, or choose another file with --out") from None
    except OSError as error:
        raise ConfigError(f"exercise: cannot write {path}: {error.strerror}; choose another file with --out") from error
    print(f"{path}: fill in `backward`, then run\npython -m tinygrad_lm.learn check {path}")
    return 0


def unsolved(name):
    """The source of the exercise without the formula of its gradient and without the body of `backward`."""
    lines = inspect.getsource(EXERCISES[name]).splitlines()
    tree = ast.parse("\n".join(lines)).body[0]
    doc = tree.body[0].lineno - 1
    lines[doc] = lines[doc].split("        d")[0].rstrip()  # the two halves of a formula stand eight spaces apart
    backward = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "backward")
    lines[backward.body[0].lineno - 1 : backward.end_lineno] = [" " * 8 + "..."]
    return "\n".join(lines) + "\n"
