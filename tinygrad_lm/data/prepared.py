"""A folder of prepared data, as training finds it (curate/prepare.py writes it):

manifest.json                  what is here, sealed with a sum of its own; it is written last
tokenizer/                     the tokenizer's files, where it is made from files
<source>/train_000000.bin …    token files (shards.py) to train on, and val_000000.bin … to validate on
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.tokenizer import from_dict
from tinygrad_lm.data.weights import weight_problems
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import seal

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PreparedSource:
    """floor: the loss in nats a token that no model can go below on what is held out, None where nobody knows it."""

    name: str
    weight: Fraction
    train: Shards
    held_out: Shards
    floor: float | None


class Prepared:
    """An existing folder: `path`, `tokenizer`, `sources` as a tuple, and `seal`, a sum of all that is said of them but
    their weights, which may change at any time.

    The manifest's seal, the vocabulary and all headers are checked, ids when they are read; the sums of whole files are
    not, which takes as long as reading them. Raises DataError with everything that is wrong.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            manifest = read_manifest(self.path)
            self.tokenizer = from_dict(manifest["tokenizer"], self.path)
            problems, sources = [], []
            for name, source in manifest["sources"].items():
                train, held_out = (self._shards(name, source[kind], problems) for kind in ("train", "val"))
                floor = (source.get("floor") or {}).get("val")
                sources.append(PreparedSource(name, Fraction(source["weight"]), train, held_out, floor))
            self.sources = tuple(sources)
            self.seal = seal({name: source | {"weight": None} for name, source in manifest["sources"].items()})
            problems += weight_problems(manifest["sources"], [source.weight for source in sources])
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            why = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            raise DataError(f"prepared data {self.path}: {MANIFEST}: {why}; prepare it again") from error
        if problems:
            raise DataError("\n  ".join([f"prepared data {self.path}: {len(problems)} to mend", *problems]))

    def _shards(self, name, described, problems):
        """The token files of a source; what does not agree with the manifest goes to `problems`."""
        found = []
        for shard in described["shards"]:
            try:
                one = Shards([self.path / shard["file"]], self.tokenizer.vocab_size)
            except DataError as error:
                problems.append(f"source {name!r}: {error}")
                continue
            if len(one) != shard["tokens"]:
                problems.append(
                    f"source {name!r}: token file {self.path / shard['file']}: the manifest says {shard['tokens']:,} "
                    f"tokens, the file has {len(one):,}; one of them is of another preparation"
                )
            found += one.paths
        if (total := sum(shard["tokens"] for shard in described["shards"])) != described["tokens"]:
            problems.append(f"source {name!r}: expected {described['tokens']:,} tokens, its files have {total:,}")
        return Shards(found, self.tokenizer.vocab_size)

    def weigh(self, weights):
        """Takes other weights than the manifest's, {source: Fraction or text}."""
        self.sources = tuple(replace(source, weight=Fraction(weights[source.name])) for source in self.sources)

    def train(self):
        """{source: (weight, its tokens to train on)}, what Mixture takes."""
        return {source.name: (source.weight, source.train) for source in self.sources}

    def validation(self, most=2**18):
        """{source: (weight, its tokens to validate on)} of the sources that have any: arrays of whole documents from
        the front, at most so many tokens each. DataError if no source has any."""
        tokens = {s.name: (s.weight, front(s.held_out, most, self.tokenizer.eot)) for s in self.sources}
        if not any(len(array) > 1 for _, array in tokens.values()):
            raise DataError(
                f"prepared data {self.path}: no source has tokens to validate on; hold out a larger share of the "
                "documents (validation in the mixture file; validation_shards for token files) and prepare it again"
            )
        return {name: pair for name, pair in tokens.items() if len(pair[1]) > 1}


def read_manifest(folder):
    """What manifest.json says. Raises DataError if it is not there or not whole."""
    try:
        return read_sealed(Path(folder, MANIFEST))
    except FileNotFoundError as error:
        raise DataError(
            f"prepared data {folder}: {MANIFEST}: {error.strerror}; it is written last, so the folder is none of "
            "prepared data, or unfinished: python -m tinygrad_lm.data prepare MIXTURE.toml makes it or goes on"
        ) from None


def read_sealed(path):
    """What a JSON file says that has a seal of its own, less that. Raises FileNotFoundError, or DataError if it is not
    whole."""
    try:
        content = json.loads(path.read_bytes())
        told = content.pop("seal")
        if told != (found := seal(content)):
            raise ValueError(f"expected the seal {told}, found {found}; it was changed after it was written")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"prepared data {path.parent}: {path.name}: it is damaged, {type(error).__name__}: {error}; prepare it "
            "again: python -m tinygrad_lm.data prepare MIXTURE.toml --restart"
        ) from None
    return content


def front(shards, most, eot):
    """The first tokens of a row, at most so many, int32; a document that would be cut is left out if another is there.

    eot: the token that begins a document, None where there is none.
    """
    tokens = shards.read(0, min(len(shards), most))
    begins = np.flatnonzero(tokens == eot) if eot is not None else []
    if len(tokens) < len(shards) and len(begins) and begins[-1] and shards.read(most, 1)[0] != eot:
        tokens = tokens[: begins[-1]]
    return tokens
