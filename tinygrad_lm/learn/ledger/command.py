"""The page of an example, to step through a backward pass in a browser."""

import sys

from tinygrad_lm.learn.ledger.page import write_page
from tinygrad_lm.learn.ledger.page_examples import EXAMPLES


def add_arguments(parser):
    parser.add_argument("--example", choices=EXAMPLES, default="gpt", help="what to differentiate")
    parser.add_argument("--out", default="page.html", metavar="FILE", help="the page to write")


def write_example(args):
    """Write the page of an example; return the exit status."""
    example = EXAMPLES[args.example]
    ledger = example()
    try:
        path = write_page(ledger, args.out, title=example.__doc__)
    except OSError as e:
        print(f"error: {args.out} cannot be written: {e.strerror}", file=sys.stderr)
        return 2
    print(f"{path}: {len(ledger.steps)} steps, {path.stat().st_size / 1e3:.0f} kB. Open it in a browser.")
    return 0
