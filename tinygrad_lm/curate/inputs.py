"""What a mixture is prepared from: its files, in an order that does not depend on the system, and its settings."""

import hashlib
from contextlib import closing
from dataclasses import asdict
from glob import glob
from pathlib import Path

from tinygrad_lm.curate.cleaning.classifier import Classifier
from tinygrad_lm.curate.cleaning.clean import Cleaner
from tinygrad_lm.curate.cleaning.contamination import evaluation_texts
from tinygrad_lm.curate.cleaning.duplicates import signature
from tinygrad_lm.curate.readers.formats import files, format_of
from tinygrad_lm.curate.signatures import KINDS
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.tokenizers.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError, DataError

FILES = ("files", "shards", "validation_shards")


def open_tokenizer(mixture):
    """The tokenizer that a mixture names. Raises ConfigError for one whose documents would have no end."""
    tokenizer = tokenizer_named(mixture.tokenizer, mixture.folder)
    if tokenizer.eot is None:
        raise ConfigError(
            f"prepare: tokenizer {mixture.tokenizer!r} has no end-of-text token to part documents; take gpt2, or train "
            "one: python -m tinygrad_lm.data train-tokenizer FILES"
        )
    return tokenizer


def tokenizer_named(name, folder):
    """The tokenizer of this name, or in the file that is called so, seen from `folder`."""
    path = Path(folder, name).resolve()
    return make_tokenizer(str(path) if path.is_file() else name, "\n")


def expand(patterns, folder, out=None):
    """The names of the files that patterns mean, sorted; one that two of them match is there twice.

    out: a folder whose files are none of them, for what is written is not read.
    """
    names = [name for pattern in patterns for name in files(pattern, folder)]
    own = out and out.resolve()
    return sorted(name for name in names if own is None or own not in Path(folder, name).resolve().parents)


def missing(mixture, out):
    """A line for each pattern of a source that matches no file outside of the folder `out`."""
    return [
        f"source {source.name}: {why_none(pattern, mixture.folder, out)}"
        for source in mixture.sources
        for kind in FILES
        for pattern in getattr(source, kind)
        if not expand([pattern], mixture.folder, out)
    ]


def why_none(pattern, folder, out):
    """The complaint about a pattern that matches no file."""
    if expand([pattern], folder):
        return f"{pattern!r} matches files in {out} alone, the folder to write to; give another --out"
    if glob(pattern, root_dir=folder, recursive=True):
        return f"{pattern!r} matches folders alone, expected files; write {pattern.rstrip('/')}/*"
    return f"no file matches {pattern!r}, seen from {folder.resolve()}; check the path"


def inputs(mixture, tokenizer, out):
    """{source: {"files" or "shards" or "validation_shards": {name: Path}}}, none of them in the folder `out`.

    What can be known to be wrong is told before hours of work: DataError with all of it.
    """
    problems, found, owners = missing(mixture, out), {}, {}
    for source in mixture.sources:
        found[source.name] = {}
        for kind in FILES:
            for name in expand(getattr(source, kind), mixture.folder, out):
                path = mixture.folder / name
                if first := owners.get(path.resolve()):
                    problems.append(f"source {source.name}: {name} would be read twice: it is {first}")
                owners.setdefault(path.resolve(), f"{name} in {kind} of source {source.name}")
                found[source.name].setdefault(kind, {})[name] = path
    for names, check, *arguments in checks(mixture, found, tokenizer):
        try:
            check(*arguments)
        except (DataError, ConfigError) as error:
            problems.append(f"source {names}: {error}")
    if problems:
        raise DataError("\n  ".join([f"prepare: {len(problems)} to mend", *problems]))
    return found


def checks(mixture, found, tokenizer):
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
        with closing(format.records(path)) as records:
            next(records, None)


def check_cleaning(clean, folder):
    """Are its rules known, its libraries there, and its files what they should be?"""
    cleaner = Cleaner(clean, folder)
    for kind in KINDS[clean.deduplicate]:
        signature(kind, "")
    if cleaner.classifier:
        Classifier.load(cleaner.classifier)
    for _ in evaluation_texts(cleaner.evaluations):
        pass


def synthetic_source(table):
    """What draws the documents of a synthetic source."""
    from tinygrad_lm.data.synthetic import synthetic

    return synthetic.make(table)


def written(mixture):
    """What the mixture file alone says that decides which bytes are written, fit for JSON."""
    sources = {}
    for source in mixture.sources:
        sources[source.name] = plain({kind: getattr(source, kind) for kind in (*FILES, "format", "synthetic")})
        if source.files:
            sources[source.name]["clean"] = plain(asdict(source.clean))
    keys = ("tokenizer", "validation", "shard_tokens")
    return {key: getattr(mixture, key) for key in keys} | {"sources": sources}


def settings(mixture, found, tokenizer):
    """All that decides which bytes are written, fit for JSON; so neither weights nor the share of damage.

    A raw file is known by its name and size: a sum over terabytes would cost a reading of all of them, and its time of
    change is another after every copy, while a file that grew or was fetched anew has another size. (`times` sees more,
    as long as the work is under way.) The small files that cleaning compares with are known by their sums, for a
    classifier has always the same size.
    """
    sources = {}
    for source in mixture.sources:
        sizes = {
            kind: {n: path.stat().st_size for n, path in paths.items()} for kind, paths in found[source.name].items()
        }
        sources[source.name] = {"format": source.format, "synthetic": plain(source.synthetic)} | sizes
        if source.files:
            sources[source.name]["clean"] = plain(asdict(source.clean)) | {"files": sums(source.clean, mixture.folder)}
    return {
        "tokenizer": tokenizer.fingerprint,
        "validation": mixture.validation,
        "shard_tokens": mixture.shard_tokens,
        "sources": sources,
    }


def times(found):
    """When each raw file was last written, in ns: {source: {name: time}}."""
    return {
        source: {name: path.stat().st_mtime_ns for paths in kinds.values() for name, path in paths.items()}
        for source, kinds in found.items()
    }


def sums(clean, folder):
    """{name: sha256} of the files that a Clean names."""
    names = expand(clean.decontaminate, folder) + ([clean.classifier] if clean.classifier else [])
    found = {}
    for name in names:
        with open(folder / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def plain(value):
    """As JSON would give it back."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int, float)) else float(value)  # TOML's are Decimal
