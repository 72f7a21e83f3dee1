"""GPT-3's quality classifier: how much a text resembles good ones. Brown et al. 2020, appendix A.

Logistic regression on hashed words, like Spark's Tokenizer and HashingTF: words are separated by white space and
lower-case; a word's hash is its feature, and words with the same hash share a weight. train_classifier.py trains it.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from tinygrad_lm.curate.cleaning.words import hashes
from tinygrad_lm.errors import DataError
from tinygrad_lm.files import replace

FEATURES = 2**18  # HashingTF's default
ALPHA = 9
FILE_FORMAT = "tinygrad_lm quality classifier 1"


def features(text):
    """(ids, values) of the words of a text, int64 and float32 (n,): value = √(share of the words).

    So the vector has length 1 for a text of any size (with counts, every long text would get an extreme score), and a
    frequent word counts more, but not proportionally.
    """
    words = hashes(text.lower().split())
    ids, counts = np.unique(words % np.uint64(FEATURES), return_counts=True)
    return ids.astype(np.int64), np.sqrt(counts / max(1, len(words))).astype(np.float32)


class Classifier:
    """score(text) = σ(b + Σ wᵢ xᵢ): the probability of a good text, if good and bad ones are equally frequent.

    weight: float32 (FEATURES,); bias: a number; settings: JSON-able facts about its training
    """

    def __init__(self, weight, bias, settings):
        self.weight, self.bias, self.settings = weight, float(bias), settings

    def score(self, text):
        return self.probability(*features(text))

    def probability(self, ids, values):
        """The score of a text, from its features."""
        z = self.bias + float(self.weight[ids] @ values)
        return 0.5 + 0.5 * math.tanh(0.5 * z)  # σ(z), without an exponential that could overflow

    def keeps(self, text):
        """Whether a draw from Pareto's distribution is above 1 − score.

        As np.random.pareto draws, P(x > t) = (1 + t)⁻ᵅ, so a text is kept with probability (2 − score)⁻⁹: always at
        score 1, 1 in 38 at 0.5, 1 in 512 at 0. Some texts with low scores stay, because the classifier knows only one
        kind of good text. The draw is a hash of the text, the same in any order and process, and independent of the
        hash that decides about validation.
        """
        u = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"pareto").digest()) + 1
        draw = (u / 2**64) ** (-1 / ALPHA) - 1
        return draw > 1 - self.score(text)

    def save(self, path):
        """Write a safetensors file atomically, with the settings and a checksum as metadata."""
        import safetensors.numpy

        arrays = {"weight": self.weight, "bias": np.array([self.bias], np.float32)}
        facts = {"format": FILE_FORMAT, "settings": self.settings, "sha256": _checksum(arrays, self.settings)}
        metadata = {"classifier": json.dumps(facts)}  # one entry, because the order of several varies
        try:
            replace(Path(path), safetensors.numpy.save(arrays, metadata))
        except OSError as error:
            raise DataError(f"classifier {path}: cannot be written: {error.strerror}; choose another place") from None

    @classmethod
    def load(cls, path):
        """Load a classifier. Raises DataError if the file is missing, damaged, or something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {}).get("classifier", "{}"))
                arrays = {name: file.get_tensor(name) for name in ("weight", "bias")}
        except OSError as error:
            raise DataError(f"classifier {path}: cannot be read: {error.strerror or error}; check the path") from None
        except (SafetensorError, ValueError) as error:
            raise DataError(f"classifier {path}: expected a file from train-classifier: {error}") from None
        found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        expected = {"weight": ((FEATURES,), "float32"), "bias": ((1,), "float32")}
        if facts.get("format") != FILE_FORMAT or found != expected:
            wrong = f"found {facts.get('format')!r} with {found}"
            raise DataError(f"classifier {path}: expected {FILE_FORMAT!r} with {expected}, {wrong}")
        if facts.get("sha256") != _checksum(arrays, facts.get("settings")):
            raise DataError(f"classifier {path} is damaged: its checksum is wrong; train it again")
        return cls(arrays["weight"], arrays["bias"][0], facts["settings"])


def _checksum(arrays, settings):
    """sha256 of the weights, the bias and the settings."""
    content = [arrays["weight"].tobytes(), arrays["bias"].tobytes(), json.dumps(settings).encode()]
    return hashlib.sha256(b"".join(content)).hexdigest()
