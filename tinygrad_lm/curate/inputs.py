"""What a mixture is prepared from: its files, in an order that does not depend on the system, and its settings."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tinygrad_lm.curate.cleaning.clean import Cleaner
from tinygrad_lm.curate.readers.formats import files, format_of
from tinygrad_lm.data.tokenizer import make_tokenizer
from tinygrad_lm.errors import ConfigError, DataError


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


def expand(patterns, folder, problems, where):
    """The files that patterns mean, {as named: Path}, sorted. One that is missing or there twice is a problem."""
    names = Counter()
    for pattern in patterns:
        found = files(pattern, folder)
        if not found:
            problems.append(f"{where}no file matches {pattern!r}, seen from {folder.resolve()}; check the path")
        names.update(found)
    problems += [f"{where}{name} is matched twice: it would be read twice" for name in names if names[name] > 1]
    return {name: folder / name for name in sorted(names)}


def inputs(mixture):
    """{source: {"files" or "shards" or "validation_shards": {name: Path}}}. DataError with all that is wrong."""
    problems, found, owners = [], {}, {}
    for source in mixture.sources:
        found[source.name] = {
            kind: expand(patterns, mixture.folder, problems, f"source {source.name}: ")
            for kind in ("files", "shards", "validation_shards")
            if (patterns := getattr(source, kind))
        }
        for name, path in (item for paths in found[source.name].values() for item in paths.items()):
            if (owner := owners.setdefault(path.resolve(), source.name)) != source.name:
                problems.append(f"source {source.name}: {name} is a file of source {owner} too")
        try:  # what can be known to be wrong is told before hours of work, not after them
            for path in found[source.name].get("files", {}).values():
                format_of(path, source.format)
            if source.files:
                Cleaner(source.clean, mixture.folder)
            if source.synthetic:
                synthetic_source(source.synthetic)
        except (DataError, ConfigError) as error:
            problems.append(f"source {source.name}: {error}")
    if problems:
        raise DataError("\n  ".join([f"prepare: {len(problems)} to mend", *problems]))
    return found


def synthetic_source(table):
    """What draws the documents of a synthetic source."""
    from tinygrad_lm.data import synthetic

    return synthetic.make(table)


def settings(mixture, found, tokenizer):
    """All that decides which bytes are written, fit for JSON; so neither weights nor the share of damage.

    A file is known by its name and size: a sum over terabytes would cost a reading of all of them, and its time of
    change is another after every copy, while a file that grew or was fetched anew has another size.
    """
    sources = {}
    for source in mixture.sources:
        sizes = {kind: sizes_of(paths) for kind, paths in found[source.name].items()}
        sources[source.name] = {"format": source.format, "synthetic": plain(source.synthetic)} | sizes
        if source.files:
            sources[source.name]["clean"] = cleaning(source.clean, mixture.folder)
    return {
        "tokenizer": tokenizer.fingerprint,
        "validation": mixture.validation,
        "shard_tokens": mixture.shard_tokens,
        "sources": sources,
    }


def cleaning(clean, folder):
    """A Clean for JSON, with the sizes of its files."""
    files = [*clean.decontaminate, *([clean.classifier] if clean.classifier else [])]
    problems = []
    paths = {pattern: expand([pattern], folder, problems, "clean: ") for pattern in files}
    if problems:
        raise DataError("\n".join(problems))
    sizes = [sizes_of(found) for found in paths.values()]
    return plain(asdict(clean)) | {"files": dict(item for each in sizes for item in each.items())}


def sizes_of(paths):
    return {name: path.stat().st_size for name, path in paths.items()}


def plain(value):
    """As JSON would give it back."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int, float)) else float(value)  # TOML's are Decimal
