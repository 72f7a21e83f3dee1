"""Find the input files of a mixture, in a fixed order, and check everything that can be checked before the work."""

from contextlib import closing
from glob import glob
from pathlib import Path

from tinygrad_lm.curate.cleaning.classifier import Classifier
from tinygrad_lm.curate.cleaning.cleaner import Cleaner
from tinygrad_lm.curate.cleaning.contamination import evaluation_texts
from tinygrad_lm.curate.cleaning.duplicates import SIGNATURE_KINDS, signature
from tinygrad_lm.curate.output.provenance import FILE_KEYS
from tinygrad_lm.curate.readers.formats import format_of, match_files
from tinygrad_lm.data.config_table import problem_list
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.synthetic.kinds import make_synthetic_source
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError, DataError


def open_tokenizer(mixture):
    """The tokenizer of a mixture. Raises ConfigError if it has no end-of-text token."""
    tokenizer = open_named_tokenizer(mixture.tokenizer, mixture.folder)
    if tokenizer.eot is None:
        raise ConfigError(
            f"prepare: tokenizer {mixture.tokenizer!r} has no end-of-text token to separate documents; use gpt2, or "
            "train one: python -m tinygrad_lm.data train-tokenizer FILES"
        )
    return tokenizer


def open_named_tokenizer(name, folder):
    """The tokenizer of this name, or of this path relative to `folder`."""
    path = Path(folder, name).resolve()
    there = path.is_file() or (path / "tokenizer.json").is_file()
    return make_tokenizer(str(path) if there else name, "\n")


def expand_patterns(patterns, folder, out=None):
    """The files that match the patterns, sorted; a file that matches twice is listed twice.

    out: the output folder, whose files are left out
    """
    names = [name for pattern in patterns for name in match_files(pattern, folder)]
    own = out and out.resolve()
    return sorted(name for name in names if own is None or own not in Path(folder, name).resolve().parents)


def unmatched_patterns(mixture, out):
    """A line for each pattern that matches no file outside the output folder."""
    return [
        f"source {source.name}: {explain_no_match(pattern, mixture.folder, out)}"
        for source in mixture.sources
        for kind in FILE_KEYS
        for pattern in getattr(source, kind)
        if not expand_patterns([pattern], mixture.folder, out)
    ]


def explain_no_match(pattern, folder, out):
    """The message about a pattern that matches no file."""
    if expand_patterns([pattern], folder):
        return f"{pattern!r} only matches files in the output folder {out}; choose another --out"
    if glob(pattern, root_dir=folder, recursive=True):
        return f"{pattern!r} only matches folders, expected files; use {pattern.rstrip('/')}/*"
    return f"no file matches {pattern!r} in {folder.resolve()}; check the path"


def find_inputs(mixture, tokenizer, out):
    """Find and check all inputs: {source: {"files" or "shards" or "validation_shards": {name: Path}}}.

    Files in the output folder are left out. Raises DataError with every problem, before hours of work begin.
    """
    problems, found, owners = unmatched_patterns(mixture, out), {}, {}
    for source in mixture.sources:
        found[source.name] = {}
        for kind in FILE_KEYS:
            for name in expand_patterns(getattr(source, kind), mixture.folder, out):
                path = mixture.folder / name
                if first := owners.get(path.resolve()):
                    problems.append(f"source {source.name}: {name} would be read twice; it is also {first}")
                owners.setdefault(path.resolve(), f"{name} in {kind} of source {source.name}")
                found[source.name].setdefault(kind, {})[name] = path
    for names, check, *arguments in input_checks(mixture, found, tokenizer):
        try:
            check(*arguments)
        except (DataError, ConfigError) as error:
            problems.append(f"source {names}: {error}")
    if problems:
        raise DataError(problem_list("prepare", problems))
    return found


def input_checks(mixture, found, tokenizer):
    """Yield (source names, check, *arguments); a check raises DataError or ConfigError."""
    sources = {}
    for source in mixture.sources:
        begun = set()
        for kind, paths in found[source.name].items():
            for path in paths.values():
                if kind == "files":
                    yield source.name, check_file, path, source.format, begun, source.options
                else:
                    yield source.name, Shards, [path], tokenizer.vocab_size
        if source.synthetic:
            yield source.name, make_synthetic_source, source.synthetic
        if source.files:
            sources.setdefault(source.clean, []).append(source.name)
    for clean, names in sources.items():
        yield ", ".join(names), check_cleaning, clean, mixture.folder


def check_file(path, format, begun, options):
    """Check that the format is known, the file not empty and, for the first file of its kind, its library installed."""
    format = format_of(path, format, **options)
    if not path.stat().st_size:
        raise DataError(f"data file {path}: expected documents, found an empty file; remove it from the list")
    if (kind := (format.name, path.suffix)) not in begun:
        begun.add(kind)
        with closing(format.read_records(path)) as records:
            next(records, None)


def check_cleaning(clean, folder):
    """Check the rules, libraries and files of a CleaningConfig."""
    cleaner = Cleaner(clean, folder)
    for kind in SIGNATURE_KINDS[clean.deduplicate]:
        signature(kind, "")
    if cleaner.classifier:
        Classifier.load(cleaner.classifier)
    for _ in evaluation_texts(cleaner.evaluations):
        pass
