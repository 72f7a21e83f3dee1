"""Show what token files contain: counts, document lengths, frequent tokens, random documents, and a plot.

DIR is a dataset that `prepare` wrote, or any folder with files in llm.c's format, which need --tokenizer.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.curate.pipeline.inputs import open_named_tokenizer
from tinygrad_lm.curate.survey import Survey, verify_dataset
from tinygrad_lm.data.config_table import problem_list
from tinygrad_lm.data.mixture.dataset import MANIFEST, SPLITS, read_manifest
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.synthetic.kinds import make_synthetic_source
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import check_picture_path, replacing

QUANTILES = {"minimum": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "maximum": 1.0}
SHOWN_TOKENS = 200  # of a document
# Escape control characters: a text could otherwise clear the screen or overwrite lines.
CONTROL = {i: repr(chr(i))[1:-1] for i in [*range(32), *range(127, 160)] if chr(i) not in "\n\t"}


def add_arguments(parser):
    parser.add_argument("folder", metavar="DIR", help="a dataset, or a folder with token files")
    parser.add_argument("--verify", action="store_true", help="only compare every file with the manifest")
    parser.add_argument("--documents", type=int, default=2, metavar="N", help="documents to show per source [2]")
    parser.add_argument("--seed", type=int, default=0, help="chooses the documents [0]")
    parser.add_argument("--tokenizer", metavar="NAME", help="name or path, for files without a manifest")
    parser.add_argument("--plot", metavar="FILE", help="path of the plot [DIR/inspect.png]")
    parser.set_defaults(function=inspect_command)


def inspect_command(args):
    """Print the survey. Returns the exit status, 1 if --verify finds problems."""
    if args.documents < 0:
        raise ConfigError(f"--documents must be at least 0, found {args.documents}")
    folder = Path(args.folder)
    manifest, tokenizer, rows = open_folder(folder, args.tokenizer)
    if args.verify:
        if manifest is None:
            raise ConfigError(f"inspect: {folder} has no {MANIFEST} to compare with; leave out --verify")
        problems = verify_dataset(folder, manifest, tokenizer)
        print(problem_list(folder, problems) if problems else f"{folder}: every file matches the manifest")
        return 1 if problems else 0
    plot = check_picture_path("inspect", "--plot", args.plot or folder / "inspect.png")
    surveys = {}
    for name, paths in rows.items():
        surveys[name] = survey = Survey(Shards(paths, tokenizer.vocab_size), tokenizer)
        for line in summary_lines(name, survey, tokenizer, len(paths)):
            print(line)
        if manifest:
            for line in floor_lines(manifest, *name.split(", ")):
                print(line)
        for line in document_lines(name, survey, tokenizer, args.documents, args.seed):
            print(line)
    try:
        draw_surveys(surveys, plot)
    except OSError as error:
        raise ConfigError(f"inspect: cannot draw {plot}: {error.strerror}; choose another --plot") from error
    print(f"plot of lengths and frequencies: {plot}")
    return 0


def open_folder(folder, name):
    """(manifest or None, tokenizer, {title: token files that are surveyed together})"""
    if folder.is_file():
        raise ConfigError(f"inspect: {folder} is a file; give its folder")
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        rows = {
            f"{source}, {split}": [folder / shard["file"] for shard in entry[split]["shards"]]
            for source, entry in manifest["sources"].items()
            for split in SPLITS
            if entry[split]["shards"]
        }
        return manifest, tokenizer_from_dict(manifest["tokenizer"], folder), rows
    rows = defaultdict(list)
    for path in sorted(folder.rglob("*.bin")):
        rows[path.stem.rstrip("0123456789").rstrip("_")].append(path)  # fineweb_train_000001.bin
    if not rows:
        raise DataError(f"inspect: {folder} has neither {MANIFEST} nor token files (.bin); check the path")
    if name is None:
        raise ConfigError(f"inspect: {folder} has no {MANIFEST} with a tokenizer; give --tokenizer, such as gpt2")
    return None, open_named_tokenizer(name, "."), rows


def summary_lines(name, survey, tokenizer, files):
    """Yield the lines about a Survey."""
    tokens = len(survey.shards)
    size = f", {survey.size / tokens:.2f} bytes per token" if survey.size and tokens else ""
    yield f"{name}: {survey.documents:,} documents, {tokens:,} tokens{size}, {files} file{'s' if files > 1 else ''}"
    if survey.documents:
        lengths = zip(QUANTILES, survey.quantiles(list(QUANTILES.values())), strict=True)
        yield f"  document lengths   {', '.join(f'{share} {length:,}' for share, length in lengths)}"
    top = np.argsort(-survey.counts, kind="stable")[:10].tolist()
    shares = [f"{tokenizer.decode([i])!r} {survey.counts[i] / tokens:.1%}" for i in top if survey.counts[i]]
    yield f"  frequent tokens    {', '.join(shares)}"
    yield f"  unused tokens      {int((survey.counts == 0).sum()):,} of {len(survey.counts):,}"


def floor_lines(manifest, source, split):
    """Yield a line with the entropy of a synthetic source, and the lowest expected loss on its documents."""
    if (floor := manifest["sources"][source]["floor"][split]) is not None:
        entropy = make_synthetic_source(manifest["mixture"]["sources"][source]["synthetic"]).entropy
        yield (
            f"  entropy            {entropy.document:.4f} nats per document, {entropy.character:.4f} per character; "
            f"these documents have {floor:.4f} per token"
        )


def document_lines(name, survey, tokenizer, count, seed):
    """Yield lines with different random documents."""
    count = min(count, survey.documents)
    for number in random(seed, "inspect", 0).choice(survey.documents, count, replace=False).tolist() if count else ():
        ids = survey.document(number, SHOWN_TOKENS + 1)
        text = tokenizer.decode(ids[:SHOWN_TOKENS].tolist()).translate(CONTROL) + (
            " …" if len(ids) > SHOWN_TOKENS else ""
        )
        yield f"--- {name}, document {number:,}"
        yield text


def draw_surveys(surveys, path):
    """Plot document lengths, and the frequency of the n-th most frequent token (Zipf's law is a straight line).

    Lengths are cumulative shares: these need no bins, and make small and large sources comparable.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    lengths, ranks = figure.subplots(1, 2)
    sources = list(dict.fromkeys(name.partition(", ")[0] for name in surveys))
    for name, survey in surveys.items():  # one colour per source; validation is dotted
        source, _, split = name.partition(", ")
        style = {"color": f"C{sources.index(source) % 10}", "linestyle": ":" if split == "val" else "-"}
        counts = np.sort(survey.counts[survey.counts > 0])[::-1]
        ranks.loglog(np.arange(1, len(counts) + 1), counts / max(1, counts.sum()), label=name, **style)
        if survey.documents:
            values, counts = zip(*survey.lengths.items(), strict=True)
            lengths.ecdf(np.array(values) + 1, counts, **style)
    lengths.set(
        xscale="log",
        xlabel="tokens per document, with its end-of-text",
        ylabel="share of documents",
        title="cumulative document lengths",
    )
    lengths.xaxis.set(major_locator=LogLocator(subs=(1, 3)), major_formatter=EngFormatter(sep=""))
    lengths.xaxis.set_minor_formatter(NullFormatter())
    ranks.set(xlabel="rank of the token", ylabel="share of all tokens", title="token frequency by rank")
    ranks.legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary)
