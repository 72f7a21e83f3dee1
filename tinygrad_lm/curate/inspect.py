"""What is in token files: counts, lengths of documents, the commonest tokens, documents at random, and a picture.

DIR is what `prepare` wrote, or any folder of files in llm.c's layout; these need --tokenizer to be read.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from tinygrad_lm.backend import random
from tinygrad_lm.curate.output.report import SPLITS
from tinygrad_lm.curate.pipeline.inputs import open_named_tokenizer, synthetic_source
from tinygrad_lm.curate.survey import Survey, verify_dataset
from tinygrad_lm.data.mixture.dataset import MANIFEST, read_manifest
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import replacing

QUANTILES = {"least": 0.0, "5 %": 0.05, "half": 0.5, "95 %": 0.95, "most": 1.0}
SHOWN_TOKENS = 200  # tokens of a document that are shown
# A text could otherwise clear the screen, or write over other lines.
CONTROL = {i: repr(chr(i))[1:-1] for i in [*range(32), *range(127, 160)] if chr(i) not in "\n\t"}


def add_arguments(parser):
    parser.add_argument("folder", metavar="DIR", help="a prepared folder, or one with token files")
    parser.add_argument("--verify", action="store_true", help="compare every file with the manifest instead")
    parser.add_argument("--documents", type=int, default=2, metavar="N", help="documents of each source to show [2]")
    parser.add_argument("--seed", type=int, default=0, help="which ones [0]")
    parser.add_argument("--tokenizer", metavar="NAME", help="of files without a manifest: a name, or a file")
    parser.add_argument("--plot", metavar="FILE", help="where to draw [DIR/inspect.png]")


def inspect_command(args):
    """Print what is there. Status 1 if --verify finds something wrong."""
    if args.documents < 0:
        raise ConfigError(f"--documents must be at least 0, found {args.documents}")
    folder = Path(args.folder)
    manifest, tokenizer, rows = open_folder(folder, args.tokenizer)
    if args.verify:
        if manifest is None:
            raise ConfigError(f"inspect: {folder} has no {MANIFEST} to compare its files with; leave out --verify")
        problems = verify_dataset(folder, manifest, tokenizer)
        print("\n".join([*problems, f"{len(problems)} wrong"] if problems else [f"{folder} is as it was prepared"]))
        return 1 if problems else 0
    plot = check_plot_path(args.plot or folder / "inspect.png")
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
        raise ConfigError(f"inspect: cannot draw {plot}: {error.strerror}; give another --plot") from error
    print(f"lengths and frequencies are drawn in {plot}")
    return 0


def open_folder(folder, name):
    """(manifest or None, tokenizer, {what is shown together: its token files})."""
    if folder.is_file():
        raise ConfigError(f"inspect: {folder} is a file; give the folder that it is in")
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
        raise ConfigError(f"inspect: {folder} has no {MANIFEST} to tell its tokenizer; give --tokenizer, such as gpt2")
    return None, open_named_tokenizer(name, "."), rows


def summary_lines(name, survey, tokenizer, files):
    """Lines on a Survey."""
    tokens = len(survey.shards)
    size = f", {survey.size / tokens:.2f} bytes a token" if survey.size and tokens else ""
    yield f"{name}: {survey.documents:,} documents, {tokens:,} tokens{size}, {files} file{'s' if files > 1 else ''}"
    if survey.documents:
        lengths = zip(QUANTILES, survey.quantiles(list(QUANTILES.values())), strict=True)
        yield f"  tokens a document  {', '.join(f'{share} {length:,}' for share, length in lengths)}"
    top = np.argsort(-survey.counts, kind="stable")[:10].tolist()
    shares = [f"{tokenizer.decode([i])!r} {survey.counts[i] / tokens:.1%}" for i in top if survey.counts[i]]
    yield f"  commonest tokens   {', '.join(shares)}"
    yield f"  tokens never used  {int((survey.counts == 0).sum()):,} of {len(survey.counts):,}"


def floor_lines(manifest, source, split):
    """A line on what no model can go below, of a synthetic source: its exact entropy, and what its documents cost."""
    if (floor := manifest["sources"][source]["floor"][split]) is not None:
        entropy = synthetic_source(manifest["mixture"]["sources"][source]["synthetic"]).entropy
        yield (
            f"  entropy            {entropy.document:.4f} nats a document, {entropy.character:.4f} a character; "
            f"these documents have {floor:.4f} a token"
        )


def document_lines(name, survey, tokenizer, count, seed):
    """Lines with documents drawn at random, none of them twice."""
    count = min(count, survey.documents)
    for number in random(seed, "inspect", 0).choice(survey.documents, count, replace=False).tolist() if count else ():
        ids = survey.document(number, SHOWN_TOKENS + 1)
        text = tokenizer.decode(ids[:SHOWN_TOKENS].tolist()).translate(CONTROL) + (
            " …" if len(ids) > SHOWN_TOKENS else ""
        )
        yield f"--- {name}, document {number:,}"
        yield text


def draw_surveys(surveys, path):
    """Lengths of documents, and how often the n-th commonest token is there (Zipf's law is a straight line).

    Lengths as cumulative shares: curves need no bins, and a small source stands beside a large one.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    lengths, ranks = figure.subplots(1, 2)
    sources = list(dict.fromkeys(name.partition(", ")[0] for name in surveys))
    for name, survey in surveys.items():  # a colour a source; what is held out is dotted
        source, _, split = name.partition(", ")
        style = {"color": f"C{sources.index(source) % 10}", "linestyle": ":" if split == "val" else "-"}
        counts = np.sort(survey.counts[survey.counts > 0])[::-1]
        ranks.loglog(np.arange(1, len(counts) + 1), counts / max(1, counts.sum()), label=name, **style)
        if survey.documents:
            values, counts = zip(*survey.lengths.items(), strict=True)
            lengths.ecdf(np.array(values) + 1, counts, **style)
    lengths.set(
        xscale="log",
        xlabel="tokens a document, and its end",
        ylabel="share of documents",
        title="documents that are at most so long",
    )
    lengths.xaxis.set(major_locator=LogLocator(subs=(1, 3)), major_formatter=EngFormatter(sep=""))
    lengths.xaxis.set_minor_formatter(NullFormatter())
    ranks.set(xlabel="rank of the token", ylabel="share of all tokens", title="rank and frequency")
    ranks.legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def check_plot_path(path):
    """The path, if a picture can be drawn there."""
    from matplotlib.backend_bases import FigureCanvasBase

    path, formats = Path(path), FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ConfigError(f"inspect: cannot draw {path}: expected a name that ends in .{', .'.join(sorted(formats))}")
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"inspect: cannot draw {path}: its folder does not exist; make it, or give another --plot")
    return path
