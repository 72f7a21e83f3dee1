"""Raw files to token files, as a mixture file says; a preparation that was stopped goes on.

Its output is a folder: token files for each source, manifest.json, report.json, and removed.jsonl with examples of what
was removed.
"""

import shlex

from tinygrad_lm.curate.prepare import prepare


def add_arguments(parser):
    parser.add_argument("mixture", metavar="MIXTURE.toml", help="sources, weights, cleaning (data/mixture/mixture.py)")
    parser.add_argument("--out", metavar="DIR", help="where to write [beside the mixture file, by its name]")
    parser.add_argument("--workers", type=int, metavar="N", help="processes [one a core]")
    parser.add_argument("--restart", action="store_true", help="forget what is there and begin anew")


def run(args):
    out = prepare(args.mixture, args.out, workers=args.workers, restart=args.restart, progress=True)
    print(f"in {out}: manifest.json, report.json, removed.jsonl, and a folder for each source")
    print(f"look at it:  python -m tinygrad_lm.data inspect {shlex.quote(str(out))}")
    return 0
