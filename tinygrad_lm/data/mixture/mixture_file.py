"""A mixture: from which sources a stream of tokens comes, and how much of each. A TOML file says it:

tokenizer = "gpt2"                 # or the path of a trained one (.tiktoken)
validation = 0.01                  # the share of documents that is held out
shard_tokens = 100_000_000         # tokens a file
damage = 0.01                      # the largest share of damaged records; more of them stop the preparation
preset = "gpt3"                    # sources without a weight, named as in gpt3.py, share what the others leave as there

[clean]                            # for all sources; the same keys in [source.clean] go before it for one
rules = ["gopher"]                 # quality rules (curate/cleaning/quality.py)
deduplicate = "exact"              # or "fuzzy", besides (the default is "none"); copies are found across sources
decontaminate = ["eval/*.jsonl"]   # texts of which no 13 words in a row may be trained on
classifier = "quality.safetensors" # keeps what looks like good text

[[source]]
name = "web"
weight = 0.6                       # or "3/5": exact, for all must add up to 1
files = ["crawl/*.warc.wet.gz"]    # patterns, seen from this file
format = "wet"                     # where the name does not tell it

[[source]]
name = "counting"
weight = 0.4
synthetic = { kind = "arithmetic", documents = 10_000 }   # data/synthetic/kinds.py

Instead of `files`, `shards` and `validation_shards` name token files that are there already (data/shards.py).
"""

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from tinygrad_lm.data.config_table import checked, share, shown, some_texts, table, text, texts
from tinygrad_lm.data.mixture.source_weights import weight_problems, weights_of
from tinygrad_lm.errors import DataError

TAKEN = {"tokenizer"}  # a folder of its own among the sources' (prepared.py)


@dataclass(frozen=True)
class Clean:
    """What is done to the documents of a source, besides normalisation."""

    rules: tuple = ()
    deduplicate: str = "none"
    decontaminate: tuple = ()
    classifier: str | None = None


@dataclass(frozen=True)
class Source:
    """Where one kind of text comes from. Exactly one of files, shards, synthetic is given."""

    name: str
    weight: Fraction
    files: tuple = ()  # patterns
    format: str | None = None
    shards: tuple = ()  # patterns
    validation_shards: tuple = ()
    synthetic: dict | None = None
    clean: Clean = Clean()


@dataclass(frozen=True)
class MixtureConfig:
    """What a mixture file says. folder: the one that patterns and paths are seen from."""

    folder: Path
    sources: tuple
    tokenizer: str = "gpt2"
    validation: float = 0.01
    shard_tokens: int = 100_000_000
    damage: float = 0.01
    preset: str | None = None


def load_mixture(path):
    """The MixtureConfig of a TOML file. Raises DataError with everything that is wrong in it."""
    path = Path(path)
    try:
        settings = tomllib.loads(path.read_bytes().decode(), parse_float=Decimal)
    except OSError as error:
        raise DataError(f"mixture {path}: cannot be read: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or tables in tables without end
        raise DataError(f"mixture {path}: expected TOML: {error}") from None
    problems = []
    mixture = _mixture(settings, path.parent, problems)
    if problems:
        raise DataError("\n  ".join([f"mixture {path}: {len(problems)} to mend", *problems]))
    return mixture


def _mixture(settings, folder, problems):
    tables = settings.pop("source", None)
    if not isinstance(tables, list) or not all(isinstance(source, dict) for source in tables) or not tables:
        problems.append("expected one [[source]] or more, found none")
        tables = []
    clean = _clean(settings.pop("clean", {}), Clean(), "[clean]", problems)
    values = checked(settings, SETTINGS, "the file", problems)
    _check_names([source.get("name") for source in tables], problems)
    before = len(problems)
    weights = weights_of(tables, values.get("preset"), problems)
    if tables and len(problems) == before:
        problems += weight_problems([source.get("name") for source in tables], weights)
    sources = tuple(_source(source, w, clean, problems) for source, w in zip(tables, weights, strict=True))
    return MixtureConfig(folder=folder, sources=sources, **values)


def _check_names(names, problems):
    for name in names:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name) or name.lower() in TAKEN:
            problems.append(
                f"source {name!r}: a name is made of letters a to z, digits, - and _, and begins with a letter or a "
                f"digit, for it becomes a folder's; {', '.join(TAKEN)} is one already"
            )
    times = Counter(name.lower() for name in names if isinstance(name, str))  # some systems know no capitals
    problems += [
        f"source {name!r} is there {n} times, capitals or not; names become folders, so each is given once"
        for name, n in times.items()
        if n > 1
    ]


def _source(source, weight, clean, problems):
    where = f"source {source.get('name')!r}"
    cleaned = _clean(source.pop("clean", {}), clean, f"{where}: clean", problems) if "clean" in source else clean
    values = checked(source, SOURCE, where, problems)
    given = [key for key in ("files", "shards", "synthetic") if key in values]
    if len(given) != 1:
        problems.append(f"{where}: expected one of files, shards, synthetic, found {' and '.join(given) or 'none'}")
    for key, other in (("format", "files"), ("validation_shards", "shards")):
        if key in values and other not in given:
            problems.append(f"{where}: {key}: goes with {other}, and there are none; leave it out")
    return Source(**{"name": "", "weight": weight, "clean": cleaned} | values)


def _clean(table, default, where, problems):
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table, found {shown(table)}")
        return default
    values = checked(table, CLEAN, where, problems)
    return Clean(**{f.name: values.get(f.name, getattr(default, f.name)) for f in fields(Clean)})


SETTINGS = {
    "tokenizer": ("the name of a tokenizer or the path of one", text),
    "validation": ("a share from 0 to less than 1", share),
    "damage": ("a share from 0 to less than 1", share),
    "shard_tokens": ("a whole number from 1 to 2³¹ − 1", lambda n: type(n) is int and 0 < n < 2**31),
    "preset": ('"gpt3"', lambda name: name == "gpt3"),
}
CLEAN = {
    "rules": ("a list of names", texts),
    "deduplicate": ('"none", "exact" or "fuzzy"', lambda name: name in ("none", "exact", "fuzzy")),
    "decontaminate": ("a list of patterns of files", texts),
    "classifier": ("the path of a classifier", text),
}
SOURCE = {
    "name": ("a text", lambda name: isinstance(name, str)),
    "files": ("a list of patterns of files", some_texts),
    "format": ("the name of a format", text),
    "shards": ("a list of patterns of files", some_texts),
    "validation_shards": ("a list of patterns of files", some_texts),
    "synthetic": ("a table of texts and numbers", table),
}
