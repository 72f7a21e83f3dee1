"""Survey token files in one pass and bounded memory, and verify a dataset against its manifest."""

import hashlib
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

import numpy as np

from tinygrad_lm.curate.pipeline.worker import load_tools
from tinygrad_lm.data.mixture.dataset import SPLITS
from tinygrad_lm.data.shards import Shards
from tinygrad_lm.errors import DataError

BLOCK = 2**22  # tokens read at once


class Survey:
    """Counts over a sequence of token files. A document begins with `eot`; tokens before the first one belong to none.

    counts: (V,), occurrences of each token; lengths: {tokens of a document without its end-of-text: documents};
    size: bytes of text, None if the tokenizer has no bytes for single tokens
    """

    def __init__(self, shards, tokenizer):
        self.shards, self.eot, self.counts = shards, tokenizer.eot, np.zeros(tokenizer.vocab_size, np.int64)
        self.lengths, in_block, last = Counter(), [], None
        for start in range(0, len(shards), BLOCK):
            ids = self._block(start)
            self.counts += np.bincount(ids, minlength=len(self.counts))
            starts = start + np.flatnonzero(ids == self.eot)
            in_block.append(len(starts))
            if last is not None:
                starts = np.append(last, starts)
            self.lengths.update((np.diff(starts) - 1).tolist())
            last = starts[-1] if len(starts) else None
        if last is not None:
            self.lengths[len(shards) - 1 - int(last)] += 1
        self.before = list(accumulate(in_block, initial=0))  # documents that begin before each block
        self.size = None
        if pieces := getattr(tokenizer, "vocabulary", None):
            self.size = sum(len(piece) * n for piece, n in zip(pieces, self.counts.tolist(), strict=True))
            self.size -= 0 if self.eot is None else len(pieces[self.eot]) * int(self.counts[self.eot])

    @property
    def documents(self):
        return self.before[-1]

    def document(self, number, most):
        """The first `most` ids of a document, without its end-of-text."""
        block = bisect_right(self.before, number) - 1
        start = block * BLOCK + int(np.flatnonzero(self._block(block * BLOCK) == self.eot)[number - self.before[block]])
        ids = self.shards.read(start + 1, min(most, len(self.shards) - start - 1))
        ends = np.flatnonzero(ids == self.eot)
        return ids[: ends[0]] if len(ends) else ids

    def quantiles(self, shares):
        """For each share, the length that this share of the documents does not exceed."""
        lengths = sorted(self.lengths)
        below = np.cumsum([self.lengths[length] for length in lengths])
        places = np.searchsorted(below, np.ceil(np.array(shares) * below[-1]))
        return [lengths[place] for place in places]

    def _block(self, start):
        return self.shards.read(start, min(BLOCK, len(self.shards) - start))


def survey_file(path, tokenizer):
    """{"tokens", "documents", "bytes", "sha256"} of a token file. Raises DataError for a damaged one."""
    shards = Shards([path], tokenizer.vocab_size)
    survey = Survey(shards, tokenizer)
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"tokens": len(shards), "documents": survey.documents, "bytes": survey.size, "sha256": sha256}


def survey_files(job, paths):
    """Survey a batch of paths in a worker. job: worker.Job"""
    return [survey_file(path, load_tools(job).tokenizer) for path in paths]


def verify_dataset(out, manifest, tokenizer):
    """Check every file of the dataset `out` against its manifest, and find files that it does not list.

    Returns the problems, a list of lines.
    """
    problems, listed = [], set()
    for name, source in manifest["sources"].items():
        for split in SPLITS:
            expected = source[split]
            found = dict.fromkeys(("documents", "tokens", "bytes"), 0)
            for shard in expected["shards"]:
                listed.add((out / shard["file"]).resolve())
                try:
                    seen = survey_file(out / shard["file"], tokenizer)
                except DataError as error:
                    problems.append(str(error))
                    found = None
                    continue
                problems += [
                    f"token file {out / shard['file']}: expected {key} {shard[key]!s:.12}, found {seen[key]!s:.12}"
                    for key in ("tokens", "sha256")
                    if seen[key] != shard[key]
                ]
                if found:
                    found = {key: found[key] if seen[key] is None else found[key] + seen[key] for key in found}
            problems += [
                f"source {name}, {split}: expected {expected[key]:,} {key}, found {found[key]:,}"
                for key in found or ()
                if found[key] != expected[key] and (key != "bytes" or hasattr(tokenizer, "vocabulary"))
            ]
        problems += [
            f"{path} is not in the manifest"
            for path in sorted((out / name).glob("*.bin*"))
            if path.resolve() not in listed
        ]
    return problems
