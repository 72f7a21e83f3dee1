"""Write a model in Hugging Face's layout, so that others can load it.

python examples/export.py runs/... my_model
"""

import argparse
import sys

from tinygrad_lm.errors import TinygradError
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.pretrained.load import load


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="RUN", help="a run's folder, or any other model that `load` takes")
    parser.add_argument("folder", metavar="FOLDER", help="the new folder")
    args = parser.parse_args(arguments)
    try:
        export(*load(args.model), args.folder)
    except (TinygradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
