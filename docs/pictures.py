"""Make the pictures of README and docs/ again, light and dark.

python docs/pictures.py                       # trains README's run, five minutes on two cores, and draws it
python docs/pictures.py --run runs/...        # draws a run that there is
python docs/pictures.py mixture               # the picture of docs/data.md
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tinygrad_lm.programs import program
from tinygrad_lm.train.loss_curve import draw_losses
from tinygrad_lm.train.run import RunFolder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RAW = ["sources/crawl.warc.wet.gz", "sources/dump.xml.bz2", "gutenberg:sources/books/*", "sources/papers.jsonl.zst"]
MIXTURE = ["--preset", "modern-tiny", "--steps", "2000", "--eval-every", "100"]
# {picture: the commands that make the folder `run`}
COMMANDS = {
    "loss": [[EXAMPLES / "pretrain_shakespeare.py", "--out", "run"]],
    "mixture": [
        [EXAMPLES / "mixture" / "make.py"],
        ["-m", "tinygrad_lm.data", "train-tokenizer", *RAW, "--vocab-size", "1024", "--out", "sources/pieces.tiktoken"],
        ["-m", "tinygrad_lm.data", "prepare", "sources/mixture.toml"],
        [EXAMPLES / "pretrain.py", "sources/mixture.toml", *MIXTURE, "--out", "run"],
    ],
}


@program
def main(arguments=None):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("picture", nargs="?", choices=COMMANDS, default="loss", help="[loss]")
    parser.add_argument("--run", metavar="RUN", help="the folder of a run to draw, instead of a new one")
    parser.add_argument("--out", metavar="FOLDER", default=EXAMPLES, help="where the pictures go [examples/]")
    args = parser.parse_args(arguments)
    if args.run:
        draw(RunFolder(args.run), args.out, args.picture)
        return
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS[args.picture]:
            subprocess.run([sys.executable, *command], cwd=folder, check=True)
        draw(RunFolder(Path(folder, "run")), args.out, args.picture)


def draw(run, folder, name):
    """Draw a run as its folder's loss.png, for a light page and for a dark one."""
    config = run.config
    for dark in (False, True):
        path = Path(folder, f"{name}{'-dark' * dark}.png")
        draw_losses(run.log, path, config["title"], config["levels"], config["floors"], dark)
        print(path)


if __name__ == "__main__":
    sys.exit(main())
