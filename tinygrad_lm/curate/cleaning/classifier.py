"""GPT-3's quality classifier: does a text look like the good ones? Brown et al. 2020, appendix A.

Logistic regression on hashed words, as Spark's Tokenizer and HashingTF make them: a word is what stands between spaces,
in lower case; its hash is its feature, and words that share one share its weight. train_classifier.py trains it.
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
    """(ids, values) of the words that a text has, int64 and float32 (n,): value = √(its share of the words).

    So the vector's length is 1 for a text of any length (a count would make every long text a sure case), and a word
    that is there often counts more, but not in proportion.
    """
    words = hashes(text.lower().split())
    ids, counts = np.unique(words % np.uint64(FEATURES), return_counts=True)
    return ids.astype(np.int64), np.sqrt(counts / max(1, len(words))).astype(np.float32)


class Classifier:
    """score(text) = σ(b + Σ wᵢ xᵢ): how likely it is a good text, where good and bad ones are equally many.

    weight: float32 (FEATURES,); bias: a number; settings: JSON-able facts on how it was trained.
    """

    def __init__(self, weight, bias, settings):
        self.weight, self.bias, self.settings = weight, float(bias), settings

    def score(self, text):
        return self.probability(*features(text))

    def probability(self, ids, values):
        """The score of a text with these features."""
        z = self.bias + float(self.weight[ids] @ values)
        return 0.5 + 0.5 * math.tanh(0.5 * z)  # σ(z), without an exponential that could overflow

    def keeps(self, text):
        """Is a draw from Pareto's distribution above 1 − score?

        As np.random.pareto draws, P(x > t) = (1 + t)⁻ᵅ, so a text is kept with probability (2 − score)⁻⁹: always at
        score 1, 1 in 38 at 0.5, 1 in 512 at 0. Some of what the classifier takes for bad stays, for it knows one kind
        of good. The draw is a hash of the text, of its own kind, since the split into training and validation is
        drawn by another: the same in any order, in any process.
        """
        u = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"pareto").digest()) + 1
        draw = (u / 2**64) ** (-1 / ALPHA) - 1
        return draw > 1 - self.score(text)

    def save(self, path):
        """Write a safetensors file, whole or not at all, with the settings and a sum of it all as metadata."""
        import safetensors.numpy

        arrays = {"weight": self.weight, "bias": np.array([self.bias], np.float32)}
        facts = {"format": FILE_FORMAT, "settings": self.settings, "sha256": _checksum(arrays, self.settings)}
        metadata = {"classifier": json.dumps(facts)}  # one entry: safetensors writes several in any order
        try:
            replace(Path(path), safetensors.numpy.save(arrays, metadata))
        except OSError as error:
            raise DataError(f"classifier {path}: cannot be written: {error.strerror}; choose another place") from None

    @classmethod
    def load(cls, path):
        """The classifier of a file. Raises DataError if it is not there, damaged, or something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {}).get("classifier", "{}"))
                arrays = {name: file.get_tensor(name) for name in ("weight", "bias")}
        except OSError as error:
            raise DataError(f"classifier {path}: cannot be read: {error.strerror or error}; check the path") from None
        except (SafetensorError, ValueError) as error:
            raise DataError(f"classifier {path}: expected one that train-classifier wrote: {error}") from None
        found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        expected = {"weight": ((FEATURES,), "float32"), "bias": ((1,), "float32")}
        if facts.get("format") != FILE_FORMAT or found != expected:
            raise DataError(
                f"classifier {path}: expected {FILE_FORMAT!r} with {expected}, found {facts.get('format')!r} with {found}"
            )
        if facts.get("sha256") != _checksum(arrays, facts.get("settings")):
            raise DataError(f"classifier {path} is damaged: its sum is not that of its weights; train it again")
        return cls(arrays["weight"], arrays["bias"][0], facts["settings"])


def _checksum(arrays, settings):
    """sha256 of the weights, the bias and the settings."""
    content = [arrays["weight"].tobytes(), arrays["bias"].tobytes(), json.dumps(settings).encode()]
    return hashlib.sha256(b"".join(content)).hexdigest()
