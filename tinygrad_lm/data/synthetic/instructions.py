"""An invented instruction set whose answers can be verified: small tasks with words and numbers, and a small world.

A conversation is a function of (seed, split, number). What is asked, not how, decides by its hash whether it belongs to
the training or to the held-out conversations: the operands of a task, whatever the phrasing; for the world, whose facts
are few, the very words. So no held-out prompt occurs in training, and neither does a held-out sum in other words.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from tinygrad_lm.backend import random
from tinygrad_lm.data.synthetic.island import people
from tinygrad_lm.errors import ConfigError

HELD_OUT = 8  # one in so many
SPLITS = ("train", "held-out")
VOWELS, CONSONANTS = "aeiou", "bdfgklmnprstvz"


class Conversation(NamedTuple):
    """A conversation and what is right: the messages end with an answer to imitate, `answer` is for the verifier.

    verifier: the name of a function of posttrain/verifiers/verifiers.py
    """

    task: str
    messages: list  # of {"role": …, "content": …}
    answer: str
    verifier: str


class Task(NamedTuple):
    phrasings: tuple
    draw: Callable  # generator -> {field of the phrasings: value}
    answer: Callable  # of the fields


def draw_word(rng, least=3, most=6):
    """Consonants and vowels in turn, so that it can be said."""
    n, turn = int(rng.integers(least, most + 1)), int(rng.integers(2))
    kinds = ((CONSONANTS, VOWELS)[(turn + i) % 2] for i in range(n))
    return "".join(kind[int(rng.integers(len(kind)))] for kind in kinds)


def draw_words(rng, most, separator):
    return separator.join(draw_word(rng) for _ in range(int(rng.integers(1, most + 1))))


def draw_letters(rng):
    return "".join("abcdefghij"[i] for i in rng.permutation(10)[: int(rng.integers(3, 6))])


def draw_numbers(rng, below):
    a, b = rng.integers(10, below, size=2).tolist()
    return {"a": a, "b": b}


TASKS = {
    "add": Task(
        ("Add {a} and {b}.", "What is {a} plus {b}?", "{a} + {b} = ?"),
        lambda rng: draw_numbers(rng, below=50),
        lambda a, b: str(a + b),
    ),
    "larger": Task(
        ("Which is larger, {a} or {b}?", "The larger of {a} and {b}?", "What is the maximum of {a} and {b}?"),
        lambda rng: draw_numbers(rng, below=100),
        lambda a, b: str(max(a, b)),
    ),
    "sort": Task(
        ("Sort the letters {letters}.", "Put {letters} in order.", "Alphabetical order of {letters}?"),
        lambda rng: {"letters": draw_letters(rng)},
        lambda letters: "".join(sorted(letters)),
    ),
    "reverse": Task(
        ("Reverse the word {word}.", "What is {word} backwards?", "Turn {word} around."),
        lambda rng: {"word": draw_word(rng)},
        lambda word: word[::-1],
    ),
    "letters": Task(
        ("How many letters has {word}?", "Count the letters of {word}.", "How long is the word {word}?"),
        lambda rng: {"word": draw_word(rng, 2, 9)},
        lambda word: str(len(word)),
    ),
    "lines": Task(
        ("Count the lines:\n{lines}", "How many lines?\n{lines}", "{lines}\nNumber of lines above?"),
        lambda rng: {"lines": draw_words(rng, 5, "\n")},
        lambda lines: str(lines.count("\n") + 1),
    ),
    "copy": Task(
        ("Repeat: {words}", "Say {words}, please.", "Copy this: {words}"),
        lambda rng: {"words": draw_words(rng, 3, " ")},
        lambda words: words,
    ),
    "louder": Task(
        ("Say it louder: {words}", "Shout {words}!", "In capitals: {words}"),
        lambda rng: {"words": draw_words(rng, 2, " ")},
        lambda words: words.upper(),
    ),
}
ABOUT = {
    "craft": ("What is the craft of {name}?", "What does {name} do?", "Which work does {name} do?"),
    "place": ("Where does {name} live?", "What is the home of {name}?", "At which place is {name} at home?"),
    "animal": ("Which pet has {name}?", "What animal is the pet of {name}?", "What pet does {name} keep?"),
    "name": ("Who is the {craft}?", "What is the {craft} called?", "Name the {craft} of Ollo."),
}
AGAIN = ("Again, louder.", "Louder!", "Once more, in capitals.")
CAN_BE_LOUDER = ("sort", "reverse", "copy")
TASK_NAMES = (*TASKS, "island", "again")


def instructions(count, seed=0, split="train", first=0, world=0):
    """Yield the conversations first, …, count − 1 of a seed and split. world: the seed of the island's facts"""
    check_split(split)
    inhabitants = people(world)
    return (
        draw_conversation(random(seed, f"instructions/{split}", i), split, inhabitants) for i in range(first, count)
    )


def draw_conversation(rng, split, inhabitants):
    """A conversation about any task, all equally often. A question of the other split is drawn again."""
    name = choose(rng, TASK_NAMES)
    asked = choose(rng, CAN_BE_LOUDER) if name == "again" else name
    while True:
        text, answer, key = ask_island(rng, inhabitants) if asked == "island" else ask(rng, asked)
        if split == split_of(key):
            break
    messages = [message("user", text), message("assistant", answer)]
    if name == "again":
        answer = answer.upper()
        messages += [message("user", choose(rng, AGAIN)), message("assistant", answer)]
    return Conversation(name, messages, answer, "equal")


def ask(rng, name):
    """A question, its answer, and what decides on its split."""
    task = TASKS[name]
    fields = task.draw(rng)
    key = " ".join([name, *map(str, fields.values())])
    return choose(rng, task.phrasings).format(**fields), task.answer(**fields), key


def ask_island(rng, inhabitants):
    person, fact = choose(rng, inhabitants), choose(rng, tuple(ABOUT))
    text = choose(rng, ABOUT[fact]).format(**person._asdict())
    return text, getattr(person, fact), f"island {text}"


def split_of(key):
    """'held-out' for one key in HELD_OUT, else "train"."""
    return SPLITS[hashlib.sha256(key.encode()).digest()[0] % HELD_OUT == 0]


def check_split(split):
    if split not in SPLITS:
        raise ConfigError(f"split {split!r} is unknown; expected {' or '.join(SPLITS)}")


def choose(rng, options):
    return options[int(rng.integers(len(options)))]


def message(role, content):
    return {"role": role, "content": content}
