"""Make raw files to try the data pipeline: four kinds of invented text, each in its usual format.

python -m pip install -e ".[data]"
python examples/mixture/make.py                                     # writes the folder sources/, 3 MB
python -m tinygrad_lm.data train-tokenizer sources/crawl.warc.wet.gz sources/dump.xml.bz2 "gutenberg:sources/books/*" \\
    sources/papers.jsonl.zst --vocab-size 1024 --out sources/pieces.tiktoken
python -m tinygrad_lm.data prepare sources/mixture.toml
python -m tinygrad_lm.data inspect sources/mixture                  # counts, lengths, documents, a plot
python examples/pretrain.py sources/mixture.toml --preset modern-tiny --steps 2000 --eval-every 100
"""

import argparse
from pathlib import Path

from invented_texts import documents
from raw_books import write_books
from raw_files import write_jsonl, write_wet, write_wikipedia

MIXTURE = """\
tokenizer = "{tokenizer}"
validation = 0.1

[clean]
deduplicate = "exact"

[[source]]
name = "web"
weight = 0.4
files = ["crawl.warc.wet.gz"]
clean = {{ rules = ["gopher"], deduplicate = "fuzzy" }}

[[source]]
name = "wikipedia"
weight = 0.2
files = ["dump.xml.bz2"]

[[source]]
name = "books"
weight = 0.2
files = ["books/*.txt"]
format = "gutenberg"

[[source]]
name = "papers"
weight = 0.1
files = ["papers.jsonl.zst"]

[[source]]
name = "sums"                                           # drawn as needed; the lowest possible loss is known
weight = 0.1
synthetic = {{ kind = "arithmetic", documents = 2_000 }}
"""


def write_mixture(folder, count=300, tokenizer="pieces.tiktoken"):
    """Write `count` documents of each kind, twice as many of the web. Returns the path of mixture.toml."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_wet(folder / "crawl.warc.wet.gz", documents("web", 2 * count))
    write_wikipedia(folder / "dump.xml.bz2", documents("wikipedia", count))
    chapters = documents("books", count)
    write_books(folder / "books", ["\n\n\n".join(chapters[i : i + 10]) for i in range(0, count, 10)])
    write_jsonl(folder / "papers.jsonl.zst", documents("papers", count))
    path = folder / "mixture.toml"
    path.write_text(MIXTURE.format(tokenizer=tokenizer))
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="sources")
    parser.add_argument("--documents", type=int, default=1000, help="documents of each kind [1000]")
    args = parser.parse_args(arguments)
    print(f"written: {write_mixture(args.folder, args.documents)} and its source files")


if __name__ == "__main__":
    main()
