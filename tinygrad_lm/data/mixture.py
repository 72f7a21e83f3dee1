"""A mixture: from which sources a stream of tokens comes, and how much of each. A TOML file says it:

tokenizer = "gpt2"                 # or the path of a trained one (.tiktoken)
validation = 0.01                  # the share of documents that is held out
shard_tokens = 100_000_000         # tokens a file
damage = 0.01                      # the largest share of damaged records; more of them stop the preparation
preset = "gpt3"                    # optional: the weights of GPT-3 for sources named as in GPT3 below

[clean]                            # for all sources; the same keys in [source.clean] go before it for one
rules = ["gopher"]                 # quality rules (curate/quality.py)
deduplicate = "exact"              # or "fuzzy" (the default for neither is "none")
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
synthetic = { kind = "arithmetic", documents = 10_000 }   # data/synthetic.py

Instead of `files`, `shards` and `validation_shards` name token files that are there already (data/shards.py).
"""

import tomllib
from dataclasses import dataclass, field, fields
from decimal import Decimal
from fractions import Fraction
from math import lcm
from pathlib import Path

from tinygrad_lm.errors import DataError

# Brown et al. 2020, table 2.2: (billions of tokens, share in training in percent). The shares are rounded and add up to
# 101, so each is taken as its part of that. Over 300 billion tokens they imply the epochs that the table prints.
GPT3 = {
    "commoncrawl": (410, 60),
    "webtext2": (19, 22),
    "books1": (12, 8),
    "books2": (55, 8),
    "wikipedia": (3, 3),
}
GPT3_TOKENS = 300  # billions
LARGEST_DENOMINATOR = 1_000_000  # of the weights: it is the length of the period in which the sources alternate


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
    clean: Clean = field(default=Clean())

    def __getitem__(self, name):
        return next(source for source in self.sources if source.name == name)


def load_mixture(path):
    """The MixtureConfig of a TOML file. Raises DataError with everything that is wrong in it."""
    path = Path(path)
    try:
        settings = tomllib.loads(path.read_bytes().decode(), parse_float=Decimal)
    except OSError as error:
        raise DataError(f"mixture {path}: cannot be read: {error.strerror}; check the path") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise DataError(f"mixture {path}: expected TOML: {error}") from None
    problems = []
    mixture = _mixture(settings, path.parent, problems)
    if problems:
        raise DataError("\n  ".join([f"mixture {path}: {len(problems)} to mend", *problems]))
    return mixture


def gpt3_epochs():
    """{source: passes over it in GPT-3's training}, the last column of its table, from the other two."""
    total = sum(percent for _, percent in GPT3.values())
    return {name: percent / total * GPT3_TOKENS / size for name, (size, percent) in GPT3.items()}


def period(weights):
    """The least number of windows in which every source gets a whole number of them."""
    return lcm(*(weight.denominator for weight in weights))


def _mixture(settings, folder, problems):
    tables = settings.pop("source", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
        problems.append("expected one [[source]] or more, found none")
        tables = []
    clean = _clean(settings.pop("clean", {}), Clean(), "[clean]", problems)
    values = _checked(settings, SETTINGS, "the file", problems)
    names = [table.get("name") for table in tables]
    problems += [
        f"source {name!r} is there {names.count(name)} times; names are the folders of what is prepared, so each is "
        f"given once" for name in dict.fromkeys(names) if names.count(name) > 1
    ]  # fmt: skip
    sources = tuple(_source(table, clean, values.get("preset"), problems) for table in tables)
    if not problems:
        _check_weights(sources, problems)
    return MixtureConfig(folder=folder, sources=sources, clean=clean, **values)


def _source(table, clean, preset, problems):
    name = table.get("name")
    where = f"source {name!r}"
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_" for c in name):
        problems.append(f"{where}: a name is made of letters, digits, - and _, for it becomes a folder's")
    if preset == "gpt3" and "weight" not in table:
        if name in GPT3:
            table["weight"] = Fraction(GPT3[name][1], sum(percent for _, percent in GPT3.values()))
        else:
            problems.append(f"{where}: preset gpt3 knows {', '.join(GPT3)}; name it as one of them, or give a weight")
            table["weight"] = Fraction(0)
    table["weight"] = _fraction(table.get("weight"), where, problems)
    table["clean"] = _clean(table.get("clean", {}), clean, f"{where}: clean", problems)
    values = _checked(table, SOURCE, where, problems)
    given = [key for key in ("files", "shards", "synthetic") if values.get(key)]
    if len(given) != 1:
        problems.append(f"{where}: expected one of files, shards, synthetic, found {' and '.join(given) or 'none'}")
    return Source(**{"name": "", "weight": Fraction(0)} | values)


def _clean(table, default, where, problems):
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table, found {table!r}")
        return default
    values = _checked(table, CLEAN, where, problems)
    return Clean(**{f.name: values.get(f.name, getattr(default, f.name)) for f in fields(Clean)})


def _fraction(value, where, problems):
    """A weight as it is written, exactly."""
    try:
        fraction = Fraction(value)
        if not 0 < fraction <= 1:
            raise ValueError
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        problems.append(f'{where}: weight: expected a number above 0 and at most 1 such as 0.6 or "3/5", found {value}')
        return Fraction(0)
    return fraction


def _check_weights(sources, problems):
    total = sum(source.weight for source in sources)
    if total != 1:
        found = " + ".join(f"{source.name} {source.weight}" for source in sources)
        problems.append(
            f"the weights add up to {total} = {float(total):.6g}, expected exactly 1: {found}; "
            'thirds are written as "1/3"'
        )
    elif (length := period([source.weight for source in sources])) > LARGEST_DENOMINATOR:
        problems.append(
            f"the weights have the common denominator {length:,}, more than {LARGEST_DENOMINATOR:,}; round them, for "
            "instance to three decimals"
        )


def _checked(table, kinds, where, problems):
    """The values of a table that are of the right kind; what is not is told. kinds: {key: (description, check)}."""
    values = {}
    for key, value in table.items():
        if key not in kinds:
            problems.append(f"{where}: {key!r} is unknown; expected one of {', '.join(kinds)}")
        elif not kinds[key][1](value):
            problems.append(f"{where}: {key}: expected {kinds[key][0]}, found {value!r}")
        else:
            values[key] = (
                tuple(value) if isinstance(value, list) else float(value) if isinstance(value, Decimal) else value
            )
    return values


def _text(value):
    return isinstance(value, str) and value != ""


def _share(value):
    return isinstance(value, (Decimal, int)) and not isinstance(value, bool) and 0 <= value < 1


def _texts(value):
    return isinstance(value, list) and value != [] and all(map(_text, value))


SETTINGS = {
    "tokenizer": ("the name of a tokenizer or the path of one", _text),
    "validation": ("a share from 0 to less than 1", _share),
    "damage": ("a share from 0 to less than 1", _share),
    "shard_tokens": ("a whole number from 1 to 2³¹ − 1", lambda n: type(n) is int and 0 < n < 2**31),
    "preset": ('"gpt3"', lambda name: name == "gpt3"),
}
CLEAN = {
    "rules": ("a list of names", lambda names: isinstance(names, list) and all(map(_text, names))),
    "deduplicate": ('"none", "exact" or "fuzzy"', lambda name: name in ("none", "exact", "fuzzy")),
    "decontaminate": ("a list of patterns of files", lambda names: isinstance(names, list) and all(map(_text, names))),
    "classifier": ("the path of a classifier", _text),
}
SOURCE = {
    "name": ("a text", lambda name: isinstance(name, str)),
    "weight": ("a number", lambda weight: isinstance(weight, Fraction)),
    "files": ("a list of patterns of files", _texts),
    "format": ("the name of a format", _text),
    "shards": ("a list of patterns of files", _texts),
    "validation_shards": ("a list of patterns of files", _texts),
    "synthetic": ("a table", lambda table: isinstance(table, dict)),
    "clean": ("a table", lambda clean: isinstance(clean, Clean)),
}
