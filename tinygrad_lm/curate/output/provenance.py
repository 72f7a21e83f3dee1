"""The settings and inputs that determine the bytes of a dataset, as its journal and its manifest record them."""

import hashlib
import json
from dataclasses import asdict

from tinygrad_lm.curate.readers.formats import match_files

FILE_KEYS = ("files", "shards", "validation_shards")


def recorded_config(mixture):
    """The part of the mixture file that determines the output, JSON-able."""
    sources = {}
    for source in mixture.sources:
        sources[source.name] = as_json_value(
            {kind: getattr(source, kind) for kind in (*FILE_KEYS, "format", "synthetic")} | source.options
        )
        if source.files:
            sources[source.name]["clean"] = as_json_value(asdict(source.clean))
    keys = ("tokenizer", "validation", "shard_tokens")
    return {key: getattr(mixture, key) for key in keys} | {"sources": sources}


def recorded_inputs(mixture, found, tokenizer):
    """Everything that determines the output, JSON-able. Weights and the allowed damage do not.

    A raw file is identified by name and size: a checksum of terabytes would take as long as reading them, and copying
    changes the modification time. A file that grew or was downloaded again usually has another size. (While an
    unfinished run can be resumed, `modification_times` detects more.) The small files that cleaning uses are identified
    by checksums, because all classifiers have the same size.
    """
    sources = {}
    for source in mixture.sources:
        sizes = {
            kind: {n: path.stat().st_size for n, path in paths.items()} for kind, paths in found[source.name].items()
        }
        settings = {"format": source.format, "synthetic": as_json_value(source.synthetic)} | source.options
        sources[source.name] = settings | sizes
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
    """When each raw file was last modified, in ns: {source: {name: time}}."""
    return {
        source: {name: path.stat().st_mtime_ns for paths in kinds.values() for name, path in paths.items()}
        for source, kinds in found.items()
    }


def checksums(clean, folder):
    """{name: sha256} of the files that a CleaningConfig names."""
    names = sorted(name for pattern in clean.decontaminate for name in match_files(pattern, folder))
    names += [clean.classifier] if clean.classifier else []
    found = {}
    for name in names:
        with open(folder / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def as_json_value(value):
    """The value as JSON would return it: with lists for tuples."""
    return json.loads(json.dumps(value))
