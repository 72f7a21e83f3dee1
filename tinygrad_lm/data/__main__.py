"""From raw text to what a model is trained on: train tokenizers, prepare token files and inspect them."""

import argparse
import sys
from importlib import import_module

from tinygrad_lm.programs import program

# Each is a module with add_arguments(parser) and run(args) -> status; only the module of the given command is imported.
COMMANDS = {
    "prepare": ("tinygrad_lm.curate.prepare_command", "raw files to token files, as a mixture file says"),
    "inspect": ("tinygrad_lm.curate.inspect", "what is in token files: counts, lengths, documents, plots"),
    "train-tokenizer": ("tinygrad_lm.curate.train_tokenizer", "a byte-level BPE vocabulary of your own text"),
    "train-classifier": ("tinygrad_lm.curate.cleaning.train_classifier", "good text from other text, after GPT-3"),
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
    return chosen.run(args)


if __name__ == "__main__":
    sys.exit(main())
