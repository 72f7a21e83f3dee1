"""A dataset: a folder of token files that curate/prepare.py writes and training reads.

manifest.json                  what the dataset contains, with its own checksum (seal); written last
tokenizer/                     the tokenizer's files, if it has any
<source>/train_000000.bin …    token files (shards.py) for training; val_000000.bin … for validation
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from tinygrad_lm.data.config_table import problem_list
from tinygrad_lm.data.mixture.source_weights import weight_problems
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.data.tokenizers.tokenizer import tokenizer_from_dict
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.files import seal, unsealed

BLOCK = 4096  # consecutive tokens of held-out text: a few contexts
SPLITS = ("train", "val")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DatasetSource:
    """One source of a dataset.

    floor: lowest expected loss on all held-out tokens, in nats per token; None if unknown. `Dataset.validation` may
    return only a part of these, whose mean can differ.
    """

    name: str
    weight: Fraction
    train: Shards
    held_out: Shards
    floor: float | None


class Dataset:
    """An existing dataset: `path`, `tokenizer`, `sources` (a tuple of DatasetSource) and `seal`, a checksum of the
    manifest's sources except their weights, which may change at any time.

    Checks the manifest's seal, the vocabulary and all headers now, and ids as they are read. Checksums of whole files
    are left to `inspect --verify`, because they take as long as reading the files. Raises DataError with every problem.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            manifest = read_manifest(self.path)
            self.tokenizer = tokenizer_from_dict(manifest["tokenizer"], self.path)
            problems: list[str] = []
            sources = []
            for name, source in manifest["sources"].items():
                train, held_out = (self._shards(name, source[split], problems) for split in SPLITS)
                floor = (source.get("floor") or {}).get("val")
                sources.append(DatasetSource(name, Fraction(source["weight"]), train, held_out, floor))
            self.sources = tuple(sources)
            self.seal = seal({name: source | {"weight": None} for name, source in manifest["sources"].items()})
            problems += weight_problems(manifest["sources"], [source.weight for source in sources])
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            why = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            raise DataError(f"dataset {self.path}: {MANIFEST}: {why}; prepare it again") from error
        if problems:
            raise DataError(problem_list(f"dataset {self.path}", problems))

    def _shards(self, name, described, problems):
        """The token files of a source; contradictions with the manifest are appended to `problems`."""
        paths = [self.path / shard["file"] for shard in described["shards"]]
        counts = [shard["tokens"] for shard in described["shards"]]
        if sum(counts) != described["tokens"]:
            problems.append(f"source {name!r}: expected {described['tokens']:,} tokens, files have {sum(counts):,}")
        try:
            return Shards(paths, self.tokenizer.vocab_size, counts)
        except DataError as error:
            outside = any(shard["file"].startswith("..") for shard in described["shards"])
            way = "; its path is relative to the dataset: move both together, or prepare it again" * outside
            problems += [f"source {name!r}: {problem}{way}" for problem in str(error).split("\n")]

    def weigh(self, weights: dict[str, Fraction | str]) -> None:
        """Replace the manifest's weights. weights: {source: Fraction or text}"""
        self.sources = tuple(replace(source, weight=Fraction(weights[source.name])) for source in self.sources)

    def train(self) -> dict[str, tuple[Fraction, Shards]]:
        """{source: (weight, training tokens)}, the argument of MixtureBatches."""
        return {source.name: (source.weight, source.train) for source in self.sources}

    def validation(self, most: int = 2**18) -> dict[str, tuple[Fraction, np.ndarray]]:
        """{source: (weight, validation tokens)} of the sources that have any, at most `most` tokens each.

        Raises DataError if no source has any.
        """
        tokens = {s.name: (s.weight, read_spread(s.held_out, most, self.tokenizer.eot)) for s in self.sources}
        if not any(len(array) > 1 for _, array in tokens.values()):
            raise DataError(
                f"dataset {self.path}: no source has validation tokens; raise `validation` in the mixture file or, for "
                "a source of shards, name validation_shards; then prepare it again"
            )
        return {name: pair for name, pair in tokens.items() if len(pair[1]) > 1}


def read_manifest(folder):
    """The content of manifest.json. Raises DataError if it is missing or damaged."""
    try:
        return read_sealed(Path(folder, MANIFEST))
    except FileNotFoundError as error:
        raise DataError(
            f"dataset {folder}: {MANIFEST}: {error.strerror}; it is written last, so this is not a dataset, or an "
            "unfinished one: python -m tinygrad_lm.data prepare MIXTURE.toml creates or resumes it"
        ) from None


def read_sealed(path):
    """The content of a sealed JSON file, without its seal. Raises FileNotFoundError, or DataError if it is damaged."""
    try:
        return unsealed(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"dataset {path.parent}: {path.name} is damaged, {type(error).__name__}: {error}; prepare it again: "
            "python -m tinygrad_lm.data prepare MIXTURE.toml --restart"
        ) from None


def read_spread(shards, most, eot):
    """A sample of the tokens, int32: all of them, or at most `most` in evenly spaced blocks.

    The first `most` tokens would come from the first raw files only. A block starts at a document boundary if there is
    one nearby, and has a fixed length. eot: the token that begins a document, or None
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
