"""A mixture file: the sources of a dataset, the weight and the cleaning of each, in TOML.

tokenizer = "gpt2"                 # or the path of a trained one (.tiktoken), or of a published tokenizer.json
validation = 0.01                  # share of documents to hold out
shard_tokens = 100_000_000         # tokens per file
damage = 0.01                      # largest allowed share of damaged records; more than that is an error
preset = "gpt3"                    # sources without a weight share the rest as in GPT-3 (source_weights.py)

[clean]                            # for all sources; keys of [source.clean] override it for one source
rules = ["gopher"]                 # quality rules (curate/cleaning/quality.py)
deduplicate = "exact"              # "none" (default), "exact", or "fuzzy", which includes exact; across all sources
decontaminate = ["eval/*.jsonl"]   # evaluation files; 13-grams of their texts are cut out
classifier = "quality.safetensors" # quality classifier, from train-classifier

[[source]]
name = "web"
weight = 0.6                       # or "3/5"; weights are exact and must add up to 1
files = ["crawl/*.warc.wet.gz"]    # patterns, relative to this file
format = "wet"                     # needed only if the file name does not imply it
# field = "content"                # jsonl, parquet: which field or column is the document ["text"]
# separator = "<|endoftext|>"      # text: documents end where this stands

[[source]]
name = "counting"
weight = 0.4
synthetic = { kind = "arithmetic", documents = 10_000 }   # data/synthetic/kinds.py

Instead of `files`, `shards` and `validation_shards` name existing token files (data/shards.py).
"""

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from tinygrad_lm.data.config_table import (
    as_floats,
    check_table,
    choice_kind,
    problem_list,
    share_kind,
    table_kind,
    text_kind,
    texts_kind,
    whole_kind,
)
from tinygrad_lm.data.mixture.source_weights import take_weights, weight_problems
from tinygrad_lm.errors import DataError

RESERVED_NAMES = {"tokenizer"}  # a folder beside those of the sources (dataset.py)


@dataclass(frozen=True)
class CleaningConfig:
    """How the documents of a source are cleaned, besides normalisation."""

    rules: tuple = ()
    deduplicate: str = "none"
    decontaminate: tuple = ()
    classifier: str | None = None


@dataclass(frozen=True)
class SourceConfig:
    """One source. Exactly one of files, shards, synthetic is given."""

    name: str
    weight: Fraction
    files: tuple = ()  # patterns
    format: str | None = None
    field: str | None = None
    separator: str | None = None
    shards: tuple = ()  # patterns
    validation_shards: tuple = ()
    synthetic: dict | None = None
    clean: CleaningConfig = CleaningConfig()

    @property
    def options(self):
        """How the files are read besides their format, {name: value}, without what is left out."""
        options = {"field": self.field, "separator": self.separator}
        return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True)
class MixtureConfig:
    """The content of a mixture file. folder: patterns and paths are relative to it."""

    folder: Path
    sources: tuple
    tokenizer: str = "gpt2"
    validation: float = 0.01
    shard_tokens: int = 100_000_000
    damage: float = 0.01
    preset: str | None = None


def load_mixture_config(path):
    """Read a mixture file. Raises DataError with every problem in it."""
    path = Path(path)
    try:
        settings = tomllib.loads(path.read_bytes().decode(), parse_float=Decimal)
    except OSError as error:
        raise DataError(f"mixture {path}: cannot be read: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested too deeply
        raise DataError(f"mixture {path}: expected TOML: {error}") from None
    problems = []
    mixture = _mixture(settings, path.parent, problems)
    if problems:
        raise DataError(problem_list(f"mixture {path}", problems))
    return mixture


def _mixture(settings, folder, problems):
    tables = settings.pop("source", None)
    if not isinstance(tables, list) or not all(isinstance(source, dict) for source in tables) or not tables:
        problems.append("expected one [[source]] or more, found none")
        tables = []
    clean = _clean(settings.pop("clean", {}), CleaningConfig(), "[clean]", problems)
    values = _checked(settings, MIXTURE_KEYS, "the file", problems)
    _check_names([source.get("name") for source in tables], problems)
    before = len(problems)
    weights = take_weights(tables, values.get("preset"), problems)
    if tables and len(problems) == before:
        problems += weight_problems([source.get("name") for source in tables], weights)
    sources = tuple(_source(source, w, clean, problems) for source, w in zip(tables, weights, strict=True))
    return MixtureConfig(folder=folder, sources=sources, **values)


def _check_names(names, problems):
    for name in names:
        if (
            not isinstance(name, str)
            or not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name)
            or name.lower() in RESERVED_NAMES
        ):
            problems.append(
                f"source {name!r}: a name has letters a to z, digits, - and _, and begins with a letter or digit, "
                f"because it names a folder; {', '.join(RESERVED_NAMES)} is reserved"
            )
    times = Counter(name.lower() for name in names if isinstance(name, str))  # some file systems ignore case
    problems += [
        f"source {name!r} appears {n} times, ignoring case; names become folders, so each must be unique"
        for name, n in times.items()
        if n > 1
    ]


def _source(source, weight, clean, problems):
    where = f"source {source.get('name')!r}"
    cleaned = _clean(source.pop("clean", {}), clean, f"{where}: clean", problems) if "clean" in source else clean
    values = _checked(source, SOURCE_KEYS, where, problems)
    given = [key for key in ("files", "shards", "synthetic") if key in values]
    if len(given) != 1:
        problems.append(f"{where}: expected one of files, shards, synthetic, found {' and '.join(given) or 'none'}")
    needs = dict.fromkeys(("format", "field", "separator"), "files") | {"validation_shards": "shards"}
    for key, other in needs.items():
        if key in values and other not in given:
            problems.append(f"{where}: {key}: needs {other}, and there are none; leave it out")
    return SourceConfig(**{"name": "", "weight": weight, "clean": cleaned} | values)


def _clean(table, default, where, problems):
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table, found {as_floats(table)!r}")
        return default
    values = _checked(table, CLEANING_KEYS, where, problems)
    return CleaningConfig(**{f.name: values.get(f.name, getattr(default, f.name)) for f in fields(CleaningConfig)})


def _checked(table, kinds, where, problems):
    """The valid values of a table; problems with the others are appended to `problems`."""
    values, found = check_table(table, kinds)
    problems += [f"{where}: {problem}" for problem in found]
    return values


PATTERNS = "a list of file patterns"
MIXTURE_KEYS = {
    "tokenizer": text_kind("the name or the path of a tokenizer"),
    "validation": share_kind(),
    "damage": share_kind(),
    "shard_tokens": whole_kind(1, 2**31 - 1),
    "preset": choice_kind("gpt3"),
}
CLEANING_KEYS = {
    "rules": texts_kind("a list of names"),
    "deduplicate": choice_kind("none", "exact", "fuzzy"),
    "decontaminate": texts_kind(PATTERNS),
    "classifier": text_kind("the path of a classifier"),
}
SOURCE_KEYS = {
    "name": ("a text", lambda name: isinstance(name, str)),
    "files": texts_kind(PATTERNS, least=1),
    "format": text_kind("the name of a format"),
    "field": text_kind("the name of a field"),
    "separator": text_kind("the text between documents"),
    "shards": texts_kind(PATTERNS, least=1),
    "validation_shards": texts_kind(PATTERNS, least=1),
    "synthetic": table_kind(),
}
