"""Write a model in Hugging Face's layout, so that transformers can load it.

python examples/export.py runs/... my_model
"""

import argparse
import sys

from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.programs import program


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="RUN", help="the folder of a run or of a model, or a name such as gpt2")
    parser.add_argument("folder", metavar="FOLDER", help="the folder to create")
    args = parser.parse_args(arguments)
    export(*load_pretrained(args.model), args.folder)
    print(f"wrote {args.folder}")


if __name__ == "__main__":
    sys.exit(main())
