"""All programs as one command, for those who installed the package: tinygrad-lm COMMAND, python -m tinygrad_lm COMMAND.

A command is the same code as its file of examples/ or its module (commands.py has the table).
"""

import ast
import sys
from difflib import get_close_matches
from importlib import import_module

from tinygrad_lm.commands import COMMAND, COMMANDS, EXAMPLES, file_of, spelled
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.programs import program, status_of


def main(arguments=None):
    """Run a command. Returns the exit status."""
    given = sys.argv[1:] if arguments is None else [str(argument) for argument in arguments]
    if not given or given[0] not in COMMANDS:
        return explain(given)
    try:
        start, words = found(given[0])
    except ImportError as error:
        if error.name:  # the import system's own
            raise
        print(f"error: {error}", file=sys.stderr)
        return status_of(ConfigError())
    return start([*words, *given[1:]])


def found(name):
    """(main, words): the function of a command, whose help now names commands, and the words before the user's."""
    sys.argv[0] = f"{COMMAND} {name}"  # what argparse and `spelled` call it
    if COMMANDS[name].endswith(".py"):
        sys.path.insert(0, str(EXAMPLES))  # as for `python FILE`: the programs find each other
        module, words = import_module(file_of(name).stem), []
    else:
        _, where, *words = COMMANDS[name].split()
        module = import_module(f"{where}.__main__")
    for each in COMMANDS.values():
        module.__doc__ = (module.__doc__ or "").replace(f"python {each} ", f"{spelled(each)} ")
    return module.main, words


@program
def explain(given):
    """What is printed without a command."""
    if given == ["--version"]:
        print(f"{COMMAND} {import_module('tinygrad_lm').__version__}")
    elif not given or given[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(f"usage: {COMMAND} COMMAND …, {COMMAND} COMMAND --help, or {COMMAND} --version\n")
        for name in COMMANDS:
            print(f"  {name:{width}}  {first_line(file_of(name))}")
    else:
        near = " or ".join(get_close_matches(given[0], COMMANDS))
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(COMMANDS)}"
        raise ConfigError(f"{given[0]} is not a command of {COMMAND}; {hint}")


def first_line(path):
    """The first line of a file's docstring."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
