"""A folder of prepared data, as training finds it (curate/prepare.py writes it):

manifest.json                  what is here, sealed with a sum of its own; it is written last
tokenizer/                     the tokenizer's files, where it is made from files
<source>/train_000000.bin …    token files (shards.py) to train on, and val_000000.bin … to validate on
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from tinygrad_lm.data.mixture.source_weights import weight_problems
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.tokenizers.tokenizer import from_dict
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import seal

BLOCK = 4096  # tokens of held-out text in a row: some contexts
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PreparedSource:
    """floor: the mean −ln P per token of all that is held out, None where nobody knows it: no model does better, in
    expectation. On a part of it (`Prepared.validation`) the mean may be another."""

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
        paths = [self.path / shard["file"] for shard in described["shards"]]
        counts = [shard["tokens"] for shard in described["shards"]]
        if sum(counts) != described["tokens"]:
            problems.append(f"source {name!r}: expected {described['tokens']:,} tokens, its files have {sum(counts):,}")
        try:
            return Shards(paths, self.tokenizer.vocab_size, counts)
        except DataError as error:
            outside = any(shard["file"].startswith("..") for shard in described["shards"])
            way = "; its path is seen from the prepared folder: bring both together, or prepare it again" * outside
            problems += [f"source {name!r}: {problem}{way}" for problem in str(error).split("\n")]

    def weigh(self, weights):
        """Takes other weights than the manifest's, {source: Fraction or text}."""
        self.sources = tuple(replace(source, weight=Fraction(weights[source.name])) for source in self.sources)

    def train(self):
        """{source: (weight, its tokens to train on)}, what Mixture takes."""
        return {source.name: (source.weight, source.train) for source in self.sources}

    def validation(self, most=2**18):
        """{source: (weight, its tokens to validate on)} of the sources that have any: all that is held out, or at most
        so many tokens each, spread over it (`spread`). DataError if no source has any."""
        tokens = {s.name: (s.weight, spread(s.held_out, most, self.tokenizer.eot)) for s in self.sources}
        if not any(len(array) > 1 for _, array in tokens.values()):
            raise DataError(
                f"prepared data {self.path}: no source has tokens to validate on; hold out a larger share of the "
                "documents (validation in the mixture file) or, for a source of shards, name validation_shards; then "
                "prepare it again"
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
            raise ValueError(f"expected the seal {told!s:.12}, found {found:.12}; it was changed after it was written")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"prepared data {path.parent}: {path.name}: it is damaged, {type(error).__name__}: {error}; prepare it "
            "again: python -m tinygrad_lm.data prepare MIXTURE.toml --restart"
        ) from None
    return content


def spread(shards, most, eot):
    """Tokens of a row, int32, that stand for all of it: the whole row, or at most `most` in blocks at even distances.

    Files come one after the other, so the front of a row would be the first file alone. A block begins with a document
    where one begins soon after its place, and is cut where it is full. eot: the token that begins a document, None
    where there is none.
    """
    if len(shards) <= most:
        return shards.read(0, len(shards))
    count = -(-most // BLOCK)
    size, blocks = most // count, []
    places = [i * len(shards) // count for i in range(count + 1)]
    for start, end in pairwise(places):
        tokens = shards.read(start, min(2 * size, end - start))
        begins = np.flatnonzero(tokens[: len(tokens) - size + 1] == eot) if eot is not None else ()
        first = begins[0] if len(begins) else 0
        blocks.append(tokens[first : first + size])
    return np.concatenate(blocks)
