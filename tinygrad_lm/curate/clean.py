"""What is done to one text before it becomes tokens. Each step may change it, or remove it and say why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Removal:
    """What a step took away: a whole text, or a part of it."""

    step: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left of a text, usually the one, and what was removed."""

    texts: tuple
    removed: tuple = ()


class Cleaner:
    """cleaner(text) -> Cleaned, as [clean] in a mixture asks for it. folder: the one that its paths are seen from."""

    def __init__(self, clean, folder):
        self.clean, self.folder = clean, folder

    def __call__(self, text):
        return Cleaned((text,))
