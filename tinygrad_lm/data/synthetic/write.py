"""Write made-up conversations as JSON lines: to look at, to change, or to train with elsewhere.

FOLDER/train.jsonl, held-out.jsonl                    conversations, whole
FOLDER/train-prompts.jsonl, held-out-prompts.jsonl    without the answer to imitate; the right one is for a verifier
FOLDER/train-pairs.jsonl, held-out-pairs.jsonl        of the play: two answers, of which the one with fewer lines wins
                                                      the more often, the more lines it has less
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tinygrad_lm import files
from tinygrad_lm.data.synthetic.instructions import SPLITS, instructions
from tinygrad_lm.data.synthetic.speeches import play_conversations, play_pairs
from tinygrad_lm.data.synthetic.sums import sums
from tinygrad_lm.errors import check_ranges

SETS: dict[str, Callable] = {"instructions": instructions, "sums": sums, "play": play_conversations}


def add_arguments(parser):
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write the files")
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="conversations to train on [20000]")
    parser.add_argument("--held-out", type=int, default=512, metavar="N", help="others [512]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--noise", type=float, default=0.0, help="share of the sums that are shown with a mistake [0]")
    parser.set_defaults(function=write_conversations)


def write_conversations(args):
    """Write the files of a set, and print which. Returns the exit status."""
    counts = dict(zip(SPLITS, (args.count, args.held_out), strict=True))
    ranges = {"--count, --held-out": (least := min(counts.values()), "at least 1", least >= 1)}
    ranges["--noise"] = args.noise, "0 but for sums", not args.noise or args.set == "sums"
    check_ranges("conversations", ranges)
    draw = partial(sums, noise=args.noise) if args.set == "sums" else SETS[args.set]
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        found = [conversation._asdict() for conversation in draw(count, args.seed, split)]
        write_lines(folder / f"{split}.jsonl", found)
        prompts = [{"prompt": one.pop("messages")[:-1], **one} for one in found]
        write_lines(folder / f"{split}-prompts.jsonl", prompts)
        if args.set == "play":
            pairs = (pair._asdict() for pair in play_pairs(count, args.seed, split))
            write_lines(folder / f"{split}-pairs.jsonl", pairs)
    return 0


def write_lines(path, records):
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    files.replace(path, "".join(lines).encode())
    print(f"{path}: {len(lines):,} lines")
