"""Learn backpropagation: watch it, find bugs in gradients, write your own, and examine whole runs."""

import argparse
import sys

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn import comparison, tensorboard
from tinygrad_lm.learn.cost import cost, scale
from tinygrad_lm.learn.doctor import doctor
from tinygrad_lm.learn.ledger import command as ledger
from tinygrad_lm.learn.puzzles import check, exercise, puzzle
from tinygrad_lm.learn.response import command as response
from tinygrad_lm.learn.watch import watch
from tinygrad_lm.programs import program

# {name: (module, function)}. The first line of the module's docstring says what the command does, add_arguments(parser)
# declares its options, and function(args) runs it and returns the exit status.
COMMANDS = {
    "page": (ledger, ledger.write_example),
    "bug": (puzzle, puzzle.show_puzzle),
    "exercise": (exercise, exercise.write_exercise),
    "check": (check, check.check_file),
    "watch": (watch, watch.watch_run),
    "doctor": (doctor, doctor.examine_run),
    "response": (response, response.show_response),
    "compare": (comparison, comparison.compare_runs),
    "tensorboard": (tensorboard, tensorboard.write_events),
    "cost": (cost, cost.count_costs),
    "scale": (scale, scale.show_scale),
}


@program
def main(arguments=None):
    if not __doc__:
        raise ConfigError("learn: it reads docstrings, which python -OO leaves out; start it without -OO")
    parser = argparse.ArgumentParser(prog="python -m tinygrad_lm.learn", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, _) in COMMANDS.items():
        raw = argparse.RawDescriptionHelpFormatter
        about = module.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=about, description=module.__doc__, formatter_class=raw)
        module.add_arguments(command)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    _, function = COMMANDS[args.command]
    return function(args)


if __name__ == "__main__":
    sys.exit(main())
