"""What is done to one document on its way to the shards, without knowing the others.

normalise → rules, in the order given → classifier → decontamination

Each step sees what the ones before left. Normalisation is first, for all others compare characters. Rules cost least
and throw out most. The classifier judges whole documents, as it learned them, and decontamination is last, as for
GPT-3: only so is it sure of what is trained on, since c4 takes out lines, which brings words together that were not.
Its pieces are not judged again.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tinygrad_lm.curate.cleaning.classifier import Classifier
from tinygrad_lm.curate.cleaning.contamination import GRAM, Contamination, evaluation_texts, too_short
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.cleaning.quality import RULES
from tinygrad_lm.curate.readers.formats import match_files
from tinygrad_lm.errors import DataError


@dataclass(frozen=True, slots=True)
class Removal:
    """A text that a step took out, a whole document or part of one, and why."""

    step: str  # "normalise", the name of a rule, "classifier", "decontaminate"
    reason: str  # of a few that each step has, to count them by
    text: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a document. texts: usually one; none if a step removed it; its pieces if it was cut."""

    texts: tuple
    removed: tuple


class Cleaner:
    """cleaner(text) -> Cleaned, as a source's `clean` settings say.

    clean: data.mixture.Clean; folder: the one that its patterns and paths are seen from. Cheap to make: the classifier
    and the evaluation texts are read at the first document, once a process for all Cleaners that name the same files.
    Raises DataError, with all that is wrong in one message, for unknown rules and files that are not there.
    """

    def __init__(self, clean, folder="."):
        if found := cleaning_problems(clean, folder):
            raise DataError("\n  ".join([f"clean: {len(found)} to mend", *found]))
        self.rules = [(name, RULES[name]) for name in clean.rules]
        self.classifier = clean.classifier and Path(folder, clean.classifier)
        self.evaluations = _paths(clean.decontaminate, folder)

    def __call__(self, text):
        text, removed = normalise(text), []
        if not text:
            return Cleaned((), (Removal("normalise", "empty", ""),))
        for name, rule in self.rules:
            before, dropped = text, ""
            if rule.change:
                text, dropped = map(normalise, rule.change(text))
            if reason := rule.judge(text):
                return Cleaned((), (*removed, Removal(name, reason, before)))
            if dropped:
                removed.append(Removal(name, "lines", dropped))
        if self.classifier and not _classifier(self.classifier).keeps(text):
            return Cleaned((), (*removed, Removal("classifier", "not drawn", text)))
        texts, cut = (text,), ()
        if self.evaluations:
            texts, cut = _contamination(self.evaluations).decontaminate(text)
        if not texts:
            return Cleaned((), (*removed, Removal("decontaminate", "too little left", text)))
        return Cleaned(texts, (*removed, *(Removal("decontaminate", "passage", passage) for passage in cut)))


def cleaning_problems(clean, folder="."):
    """What is wrong with `clean` settings that can be seen without reading files, as sentences."""
    found = [
        f"rules: {name!r} is unknown; expected some of {', '.join(RULES)}" for name in clean.rules if name not in RULES
    ]
    if clean.classifier and not Path(folder, clean.classifier).is_file():
        found.append(f"classifier: there is no {Path(folder, clean.classifier)}; train-classifier makes one")
    found += [
        f"decontaminate: no file is called {Path(folder, pattern)}; check the pattern"
        for pattern in clean.decontaminate
        if not _paths([pattern], folder)
    ]
    return found


def cleaning_notes(cleans, folder="."):
    """What to know of several `clean` settings before the work begins, as sentences. Reads the evaluation files, so
    that a damaged one raises DataError now."""
    for paths in dict.fromkeys(_paths(clean.decontaminate, folder) for clean in cleans):
        if paths:
            short, count = too_short(paths)
            names = ", ".join(Path(path).name for path in paths[:3]) + ", …" * (len(paths) > 3)
            if short:
                yield (
                    f"decontaminate: {short:,} of {count:,} texts in {names} have fewer than {GRAM} words; "
                    "copies of these are not found"
                )


def _paths(patterns, folder):
    """The files of some patterns, each once, in order."""
    return tuple(sorted({str(Path(folder, name)) for pattern in patterns for name in match_files(pattern, folder)}))


_classifier = lru_cache(Classifier.load)


@lru_cache
def _contamination(paths):
    return Contamination(evaluation_texts(paths))
