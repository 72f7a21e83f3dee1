"""Write a file with an operation whose gradient is left out, for you to fill in

Without a NAME the exercises are listed, the easy ones first.
"""

import ast
import inspect
from pathlib import Path

from tinygrad_lm.engine.op import Op
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.learn.puzzles.solutions import EXERCISES

HEADER = '''"""Exercise: the gradient of {name}. Fill in `backward`, then run

    python -m tinygrad_lm.learn check {path}

dy is the gradient of some loss by y and has y's shape. Return a tuple with one gradient for each input, in the inputs'
order. Each has its input's dtype and its shape, or the shape it was broadcast to: the engine sums it back. Do not
change dy or the inputs: other functions use these arrays, too.
"""

import math

import numpy as np


'''


def add_arguments(parser):
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(EXERCISES))
    parser.add_argument("--out", metavar="FILE", help="[NAME_exercise.py]")


def write_exercise(args):
    """Write the exercise's file, or list all exercises. Returns the exit status."""
    if args.name is None:
        for name in EXERCISES:
            print(f"  {name:<15}{halves(Op.registry[name])[0]}")
        print("\npython -m tinygrad_lm.learn exercise NAME [--out FILE]")
        return 0
    if args.name not in EXERCISES:
        raise ConfigError(f"exercise: {args.name!r} is unknown; expected one of {', '.join(EXERCISES)}")
    path = Path(args.out or f"{args.name}_exercise.py")
    try:
        with open(path, "x", encoding="utf-8") as file:  # "x": never overwrite a solution
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
    lines[doc] = f'    """{halves(Op.registry[name])[0]}'
    backward = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "backward")
    lines[backward.body[0].lineno - 1 : backward.end_lineno] = [" " * 8 + "..."]
    return "\n".join(lines) + "\n"
