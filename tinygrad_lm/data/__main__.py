"""Make datasets from raw text: train tokenizers and classifiers, write token files, inspect them. Make text up."""

import argparse
import sys
from importlib import import_module

from tinygrad_lm.programs import program

# Each module defines add_arguments(parser), which also sets parser default `function`: parsed arguments -> exit status.
# Only the chosen module is imported.
COMMANDS = {
    "prepare": (
        "tinygrad_lm.curate.prepare",
        "make a dataset from the raw files that a mixture file names",
    ),
    "inspect": ("tinygrad_lm.curate.inspect", "show what token files contain: counts, lengths, documents, a plot"),
    "train-tokenizer": ("tinygrad_lm.curate.train_tokenizer", "learn a byte-level BPE vocabulary from text"),
    "train-classifier": (
        "tinygrad_lm.curate.cleaning.train_classifier",
        "learn a quality classifier from good and other text",
    ),
    "conversations": ("tinygrad_lm.data.synthetic.write", "write made-up conversations whose answers can be verified"),
}


@program
def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else [str(argument) for argument in arguments]
    parser = argparse.ArgumentParser(prog="python -m tinygrad_lm.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        if arguments[:1] == [name]:
            chosen = import_module(module)
            command.description = chosen.__doc__
            chosen.add_arguments(command)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    return args.function(args)


if __name__ == "__main__":
    sys.exit(main())
