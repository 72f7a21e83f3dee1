"""Clean one document, independently of the others.

normalise → rules, in the order given → classifier → decontamination

Each step sees the result of the one before. Normalisation is first, because all others compare characters. Rules cost
least and remove most. The classifier judges whole documents, as in its training. Decontamination is last, as for GPT-3,
so that it sees the final text: c4 removes lines and so joins words. Its pieces are not judged again.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tinygrad_lm.curate.cleaning.classifier import Classifier
from tinygrad_lm.curate.cleaning.contamination import GRAM, Contamination, evaluation_texts, too_short
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.cleaning.quality import RULES
from tinygrad_lm.curate.readers.formats import match_files
from tinygrad_lm.data.config_table import problem_list
from tinygrad_lm.errors import DataError


@dataclass(frozen=True, slots=True)
class Removal:
    """A text that a step removed, a whole document or a part of one, and why."""

    step: str  # "normalise", the name of a rule, "classifier", "decontaminate"
    reason: str  # one of a few per step, for counting
    text: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A cleaned document. texts: usually one; none if a step removed it; its pieces if it was cut."""

    texts: tuple
    removed: tuple


class Cleaner:
    """cleaner(text) -> Cleaned, as a CleaningConfig describes.

    clean: mixture_file.CleaningConfig; folder: its patterns and paths are relative to it. The classifier and the
    evaluation texts are read at the first document, once per process for all Cleaners with the same files.
    Raises DataError with every unknown rule and missing file.
    """

    def __init__(self, clean, folder="."):
        if found := cleaning_problems(clean, folder):
            raise DataError(problem_list("clean", found))
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
    """The problems of a CleaningConfig that can be found without reading files."""
    found = [
        f"rules: {name!r} is unknown; expected some of {', '.join(RULES)}" for name in clean.rules if name not in RULES
    ]
    if clean.classifier and not Path(folder, clean.classifier).is_file():
        found.append(f"classifier: {Path(folder, clean.classifier)} is missing; train-classifier makes one")
    found += [
        f"decontaminate: no file matches {Path(folder, pattern)}; check the pattern"
        for pattern in clean.decontaminate
        if not _paths([pattern], folder)
    ]
    return found


def cleaning_notes(cleans, folder="."):
    """Yield warnings about CleaningConfigs. Reads the evaluation files, so a damaged one raises DataError now."""
    for paths in dict.fromkeys(_paths(clean.decontaminate, folder) for clean in cleans):
        if paths:
            short, count = too_short(paths)
            names = ", ".join(Path(path).name for path in paths[:3]) + ", …" * (len(paths) > 3)
            if short:
                yield (
                    f"decontaminate: {short:,} of {count:,} texts in {names} have fewer than {GRAM} words; "
                    "copies of these are not detected"
                )


def _paths(patterns, folder):
    """The files that match the patterns, each once, sorted."""
    return tuple(sorted({str(Path(folder, name)) for pattern in patterns for name in match_files(pattern, folder)}))


_classifier = lru_cache(Classifier.load)


@lru_cache
def _contamination(paths):
    return Contamination(evaluation_texts(paths))
