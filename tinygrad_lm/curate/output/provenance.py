"""What decides the bytes of a dataset, as its journal and its manifest record it."""

import hashlib
from dataclasses import asdict

from tinygrad_lm.curate.readers.formats import match_files

FILE_KEYS = ("files", "shards", "validation_shards")


def recorded_config(mixture):
    """What the mixture file alone says that decides which bytes are written, fit for JSON."""
    sources = {}
    for source in mixture.sources:
        sources[source.name] = as_json_value(
            {kind: getattr(source, kind) for kind in (*FILE_KEYS, "format", "synthetic")}
        )
        if source.files:
            sources[source.name]["clean"] = as_json_value(asdict(source.clean))
    keys = ("tokenizer", "validation", "shard_tokens")
    return {key: getattr(mixture, key) for key in keys} | {"sources": sources}


def recorded_inputs(mixture, found, tokenizer):
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
        sources[source.name] = {"format": source.format, "synthetic": as_json_value(source.synthetic)} | sizes
        if source.files:
            sources[source.name]["clean"] = as_json_value(asdict(source.clean)) | {
                "files": checksums(source.clean, mixture.folder)
            }
    return {
        "tokenizer": tokenizer.fingerprint,
        "validation": mixture.validation,
        "shard_tokens": mixture.shard_tokens,
        "sources": sources,
    }


def modification_times(found):
    """When each raw file was last written, in ns: {source: {name: time}}."""
    return {
        source: {name: path.stat().st_mtime_ns for paths in kinds.values() for name, path in paths.items()}
        for source, kinds in found.items()
    }


def checksums(clean, folder):
    """{name: sha256} of the files that a Clean names."""
    names = sorted(name for pattern in clean.decontaminate for name in match_files(pattern, folder)) + (
        [clean.classifier] if clean.classifier else []
    )
    found = {}
    for name in names:
        with open(folder / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def as_json_value(value):
    """As JSON would give it back."""
    if isinstance(value, dict):
        return {key: as_json_value(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_value(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int, float)) else float(value)  # TOML's are Decimal
