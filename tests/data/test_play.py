"""The built-in play: determined by its seed, with one derivation for each text, and with the stated entropy."""

import hashlib
import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.synthetic import play as module
from tinygrad_lm.data.synthetic.play import CAST, RULES, entropy_per_character, play, play_nats, probability
from tinygrad_lm.errors import TokenError

CLASSES = [symbol for symbol, rule in RULES.items() if all(len(parts) == 1 for _, parts in rule)]
LETTERS = [symbol for symbol in CLASSES if symbol not in ("end", "pause")]


def whole_speeches(text):
    return text[: text.rindex("\n\n") + 2]


def throw(symbol, random):
    """A text of the symbol and the nats of its derivation, implemented independently of the module."""
    p, parts = random.choices(RULES[symbol], [p for p, _ in RULES[symbol]])[0]
    texts, nats = [], -math.log(p)
    for i, part in enumerate(parts):
        text, cost = throw(part, random) if i % 2 else (part, 0.0)
        texts.append(text)
        nats += cost
    return "".join(texts), nats


def derivations(symbol, depth, few=None):
    """All (text, probability) of the symbol within a depth, or those with the first `few` words of each class."""
    if depth == 0:
        return
    for p, parts in RULES[symbol][: few if symbol in LETTERS else None]:
        ways = [derivations(part, depth - 1, few) if i % 2 else [(part, 1.0)] for i, part in enumerate(parts)]
        for way in itertools.product(*ways):
            yield "".join(text for text, _ in way), p * math.prod(q for _, q in way)


# What it writes


def test_the_play_of_a_seed_never_changes():
    digest = hashlib.sha256(play(seed=0, characters=50_000).encode()).hexdigest()
    assert digest == "899c928310ea2b5b2493ead0cf0efe1fc8896b1e624ac5a3ec69c0bc14670a80"


@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(0, 3000))
def test_a_shorter_play_is_the_beginning_of_a_longer_one(seed, a, b):
    short, long = play(seed, min(a, b)), play(seed, max(a, b))
    assert len(short) == min(a, b)
    assert long.startswith(short)


def test_seeds_give_different_plays():
    assert len({play(seed, 200) for seed in range(50)}) == 50


@pytest.mark.slow
def test_it_is_as_long_as_tiny_shakespeare_if_not_told():
    assert len(play()) == 1_115_394


def test_any_of_the_others_speaks_next():
    names = [speech.partition(":\n")[0] for speech in whole_speeches(play(1, 300_000)).split("\n\n")[:-1]]
    steps = [(CAST.index(b) - CAST.index(a)) % len(CAST) for a, b in itertools.pairwise(names)]
    expected = len(steps) / (len(CAST) - 1)
    assert steps.count(0) == 0
    assert all(abs(steps.count(step) - expected) < 5 * math.sqrt(expected) for step in range(1, len(CAST)))


# One derivation for each text


def test_every_symbol_has_a_rule_and_a_use():
    used = {part for rule in RULES.values() for _, parts in rule for part in parts[1::2]}
    assert used | {"speech"} == set(RULES)


def test_the_probabilities_of_each_rule_sum_to_one():
    for rule in RULES.values():
        assert math.fsum(p for p, _ in rule) == pytest.approx(1, abs=1e-12)


def test_a_word_belongs_to_one_class_and_a_note_of_a_song_is_no_word():
    words = [word for symbol in LETTERS for _, (word,) in RULES[symbol] if symbol not in ("consonant", "vowel")]
    notes = [a + b for _, (a,) in RULES["consonant"] for _, (b,) in RULES["vowel"]]
    assert len(set(words + notes)) == len(words) + len(notes)
    assert all(text.isalpha() for text in words + notes)


def test_no_two_derivations_meet_in_one_text():
    """All shapes up to a depth. The words of a class are interchangeable, so one represents all."""
    for symbol, depth in (("line", 9), ("speech", 5)):
        texts = [text for text, _ in derivations(symbol, depth, few=1)]
        assert len(texts) > 20
        assert len(set(texts)) == len(texts)


def test_the_probability_of_a_text_is_that_of_its_derivation():
    for symbol, depth in (("line", 4), ("speech", 4)):
        for text, p in derivations(symbol, depth, few=1):
            assert probability(symbol, text) == pytest.approx(p, rel=1e-12)


def test_the_probabilities_of_all_texts_sum_to_one():
    texts = [text for text, _ in derivations("object", depth=3)]
    assert math.fsum(probability("object", text) for text in texts) == pytest.approx(1, abs=1e-12)


# What it tells


@given(st.lists(st.randoms(use_true_random=False), max_size=4))
def test_information_is_that_of_the_derivation(randoms):
    text, nats, previous = "", 0.0, None
    for random in randoms:
        others = [name for name in CAST if name != previous]
        previous = random.choice(others)
        lines, cost = throw("speech", random)
        text += f"{previous}:\n{lines}\n"
        nats += math.log(len(others)) + cost
    assert play_nats(text) == pytest.approx(nats, rel=1e-12, abs=1e-12)


@pytest.mark.slow
def test_entropy_is_the_mean_information_of_the_play():
    h = entropy_per_character()
    speeches = [speech + "\n\n" for speech in whole_speeches(play(7, 150_000)).split("\n\n")[:-1]]
    nats = [play_nats(speech) - math.log(len(CAST) / (len(CAST) - 1)) for speech in speeches]
    surplus = [i - h * len(speech) for i, speech in zip(nats, speeches, strict=True)]  # has mean 0 if h is right
    deviation = statistics.stdev(surplus) / math.sqrt(len(surplus))
    assert abs(statistics.fmean(surplus)) < 4 * deviation
    assert deviation < 0.005 * h * statistics.fmean(map(len, speeches))  # so an error of 2 % would show


def test_entropy_of_a_play_worked_out_by_hand(monkeypatch):
    """Coins: a speech is a row of x that ends with probability 1/4 after each, each x in one of two cases.

    Its length is geometric with mean 4, so it has 4 (ln 2 + H(1/4)) nats and 4 x; two of the three may speak next.
    """
    speech = [(0.25, ["", "x", "\n"]), (0.75, ["", "x", "", "speech", ""])]
    monkeypatch.setattr(module, "RULES", {"speech": speech, "x": [(0.5, ["x"]), (0.5, ["X"])]})
    monkeypatch.setattr(module, "CAST", ["A", "BB", "CCC"])
    coin = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    nats = math.log(2) + 4 * (math.log(2) + coin)
    characters = 2 + len(":\n") + 4 + len("\n") + len("\n")
    assert entropy_per_character() == pytest.approx(nats / characters, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("KING:\nI ate thee.\n", "ends with an empty line"),
        ("KING:\nI ate thee.\n\nKING:\nThey hid.\n\n", "speech 2"),
        ("KING:\nI ate thee.\n\nKING:\nI ate us.\n\n", "after KING's"),
        ("PAGE:\nI ate thee.\n\n", "speech 1, 'PAGE"),
        ("KING:\nI ate the train.\n\n", "speech 1"),
        ("KING:\nI ate thee,\n\n", "speech 1"),
        ("KING:\n\n", "speech 1"),
        ("\n\n", "speech 1"),
    ],
)
def test_a_text_of_another_source_is_refused(text, complaint):
    with pytest.raises(TokenError, match=complaint):
        play_nats(text)
