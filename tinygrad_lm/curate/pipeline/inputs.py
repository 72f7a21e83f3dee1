"""What a mixture is prepared from: its files, in an order that does not depend on the system, and its settings."""

from contextlib import closing
from glob import glob
from pathlib import Path

from tinygrad_lm.curate.cleaning.classifier import Classifier
from tinygrad_lm.curate.cleaning.cleaner import Cleaner
from tinygrad_lm.curate.cleaning.contamination import evaluation_texts
from tinygrad_lm.curate.cleaning.duplicates import SIGNATURE_KINDS, signature
from tinygrad_lm.curate.output.provenance import FILE_KEYS
from tinygrad_lm.curate.readers.formats import format_of, match_files
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError, DataError


def open_tokenizer(mixture):
    """The tokenizer that a mixture names. Raises ConfigError for one whose documents would have no end."""
    tokenizer = open_named_tokenizer(mixture.tokenizer, mixture.folder)
    if tokenizer.eot is None:
        raise ConfigError(
            f"prepare: tokenizer {mixture.tokenizer!r} has no end-of-text token to part documents; take gpt2, or train "
            "one: python -m tinygrad_lm.data train-tokenizer FILES"
        )
    return tokenizer


def open_named_tokenizer(name, folder):
    """The tokenizer of this name, or in the file that is called so, seen from `folder`."""
    path = Path(folder, name).resolve()
    return make_tokenizer(str(path) if path.is_file() else name, "\n")


def expand_patterns(patterns, folder, out=None):
    """The names of the files that patterns mean, sorted; one that two of them match is there twice.

    out: a folder whose files are none of them, for what is written is not read.
    """
    names = [name for pattern in patterns for name in match_files(pattern, folder)]
    own = out and out.resolve()
    return sorted(name for name in names if own is None or own not in Path(folder, name).resolve().parents)


def unmatched_patterns(mixture, out):
    """A line for each pattern of a source that matches no file outside of the folder `out`."""
    return [
        f"source {source.name}: {explain_no_match(pattern, mixture.folder, out)}"
        for source in mixture.sources
        for kind in FILE_KEYS
        for pattern in getattr(source, kind)
        if not expand_patterns([pattern], mixture.folder, out)
    ]


def explain_no_match(pattern, folder, out):
    """The complaint about a pattern that matches no file."""
    if expand_patterns([pattern], folder):
        return f"{pattern!r} matches files in {out} alone, the folder to write to; give another --out"
    if glob(pattern, root_dir=folder, recursive=True):
        return f"{pattern!r} matches folders alone, expected files; write {pattern.rstrip('/')}/*"
    return f"no file matches {pattern!r}, seen from {folder.resolve()}; check the path"


def find_inputs(mixture, tokenizer, out):
    """{source: {"files" or "shards" or "validation_shards": {name: Path}}}, none of them in the folder `out`.

    What can be known to be wrong is told before hours of work: DataError with all of it.
    """
    problems, found, owners = unmatched_patterns(mixture, out), {}, {}
    for source in mixture.sources:
        found[source.name] = {}
        for kind in FILE_KEYS:
            for name in expand_patterns(getattr(source, kind), mixture.folder, out):
                path = mixture.folder / name
                if first := owners.get(path.resolve()):
                    problems.append(f"source {source.name}: {name} would be read twice: it is {first}")
                owners.setdefault(path.resolve(), f"{name} in {kind} of source {source.name}")
                found[source.name].setdefault(kind, {})[name] = path
    for names, check, *arguments in input_checks(mixture, found, tokenizer):
        try:
            check(*arguments)
        except (DataError, ConfigError) as error:
            problems.append(f"source {names}: {error}")
    if problems:
        raise DataError("\n  ".join([f"prepare: {len(problems)} to mend", *problems]))
    return found


def input_checks(mixture, found, tokenizer):
    """(sources, function, its arguments …): each raises DataError or ConfigError where something is wrong."""
    sources = {}
    for source in mixture.sources:
        begun = set()
        for kind, paths in found[source.name].items():
            for path in paths.values():
                if kind == "files":
                    yield source.name, check_file, path, source.format, begun
                else:
                    yield source.name, Shards, [path], tokenizer.vocab_size
        if source.synthetic:
            yield source.name, synthetic_source, source.synthetic
        if source.files:
            sources.setdefault(source.clean, []).append(source.name)
    for clean, names in sources.items():
        yield ", ".join(names), check_cleaning, clean, mixture.folder


def check_file(path, format, begun):
    """Is the format known, is anything in the file, and, for the first one of its kind, is its library there?"""
    format = format_of(path, format)
    if not path.stat().st_size:
        raise DataError(f"data file {path}: expected documents, found an empty file; give it some, or leave it out")
    if (kind := (format.name, path.suffix)) not in begun:
        begun.add(kind)
        with closing(format.read_records(path)) as records:
            next(records, None)


def check_cleaning(clean, folder):
    """Are its rules known, its libraries there, and its files what they should be?"""
    cleaner = Cleaner(clean, folder)
    for kind in SIGNATURE_KINDS[clean.deduplicate]:
        signature(kind, "")
    if cleaner.classifier:
        Classifier.load(cleaner.classifier)
    for _ in evaluation_texts(cleaner.evaluations):
        pass


def synthetic_source(table):
    """What draws the documents of a synthetic source."""
    from tinygrad_lm.data.synthetic import kinds

    return kinds.make_synthetic_source(table)
