"""Learn backpropagation: see it, find bugs in gradients, write your own, and look into whole runs."""

import argparse
import sys

from tinygrad_lm.learn.cost import cost
from tinygrad_lm.learn.doctor import doctor
from tinygrad_lm.learn.ledger import page
from tinygrad_lm.learn.puzzles import bug, check, exercise
from tinygrad_lm.programs import program

# Each is a module whose docstring's first line says what it does, with add_arguments(parser) and run(args) -> status.
COMMANDS = {
    "page": page,
    "bug": bug,
    "exercise": exercise,
    "check": check,
    "doctor": doctor,
    "cost": cost,
}


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tinygrad_lm.learn", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        raw = argparse.RawDescriptionHelpFormatter
        about = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=about, description=module.__doc__, formatter_class=raw)
        module.add_arguments(command)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    return COMMANDS[args.command].run(args)


if __name__ == "__main__":
    sys.exit(main())
