"""A small invented world: who lives on the island of Ollo. A model can know it only from this text.

The facts of a world are drawn once, from its seed: each person has a craft that no one else has, a place to live and an
animal. Documents state them in several phrasings, sentence by sentence; instructions.py asks about them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tinygrad_lm.backend import random
from tinygrad_lm.data.config_table import number_kind, whole_kind
from tinygrad_lm.data.synthetic.synthetic_source import Sentences, option

WORDS = {
    "name": "Abo Bira Cedo Dunya Ebba Faro Gilda Hoku Ilva Joss Kemi Lumo Mira Nilo Orsa Pavo",
    "craft": "baker smith weaver potter fisher miller tailor cooper mason dyer tinker carver piper roofer clerk pilot",
    "place": "mill quay cave marsh dune well ford orchard",  # two people live at each
    "animal": "goat crow mule newt hare seal toad lynx",
}
SENTENCES = {
    "craft": ("{name} is the {craft}.", "The {craft} is called {name}.", "Ollo's only {craft} is {name}."),
    "place": ("{name} lives at the {place}.", "The home of {name} is the {place}."),
    "animal": ("{name} has a pet {animal}.", "The pet of {name} is a {animal}."),
}


class Person(NamedTuple):
    name: str
    craft: str
    place: str
    animal: str


def people(world):
    """The sixteen persons of a world, drawn from its seed."""
    rng = random(world, "island")
    names, crafts, places, animals = (words.split() for words in WORDS.values())
    facts = (rng.permutation(words).tolist() for words in (crafts, places * 2, animals * 2))
    return [Person(*person) for person in zip(names, *facts, strict=True)]


@dataclass(frozen=True)
class Island(Sentences):
    """Sentences about the people of Ollo.

    world: the seed of the facts. The seed of `documents` draws texts about the same people.
    """

    world: int = option(0, whole_kind(0, 2**64 - 1))
    sentences: float = option(10.0, number_kind(1))  # per document, on average

    @cached_property
    def lines(self):
        """One sentence for each person, fact and phrasing."""
        phrasings = [phrasing for about in SENTENCES.values() for phrasing in about]
        return [phrasing.format(**person._asdict()) + "\n" for person in people(self.world) for phrasing in phrasings]
