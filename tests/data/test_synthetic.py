"""Synthetic sources: probabilities sum to one, the entropy is the mean cost of documents, seeds fix them."""

import itertools
import math
import re
import statistics
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import first_of_each

from tinygrad_lm.data.synthetic.instructions import instructions
from tinygrad_lm.data.synthetic.island import WORDS, Island, people
from tinygrad_lm.data.synthetic.kinds import KINDS, Arithmetic, Copy, Induction, Markov, Play, make_synthetic_source
from tinygrad_lm.data.synthetic.markov import Chain
from tinygrad_lm.data.synthetic.play import CAST, play_nats, speech_entropy
from tinygrad_lm.data.synthetic.sums import Additions
from tinygrad_lm.errors import ConfigError, TokenError

SMALL = {
    "markov": Markov(1, "ab", length=3.0),
    "markov of order 3": Markov(3, "abc", length=3.5, concentration=1.0, language=7),
    "copy": Copy("ab", length=2.0),
    "induction": Induction("AB", "xyz", pairs=1.5),
    "arithmetic": Arithmetic(1, lines=2.0),
    "play": Play(2.0),
    "island": Island(3, sentences=2.0),
    "additions": Additions(2.0),
}
USUAL = {kind: make_synthetic_source({"kind": kind, "documents": 1}) for kind in KINDS}
SOURCES = SMALL | {f"{kind} as it comes": source for kind, source in USUAL.items()}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
a_source = pytest.mark.parametrize("source", first_of_each(SOURCES.values(), type), ids=SOURCES)  # takes time
quick = settings(max_examples=20)


def probability(source, text):
    try:
        return math.exp(-source.nats(text))
    except TokenError:
        return 0.0


# ---- probabilities

# Strings over these characters hold all texts of up to so many units, and some that the source cannot write.
STRINGS = {
    "markov": ("abc", 7, lambda n: n),
    "markov of order 3": ("abc", 7, lambda n: n),
    "copy": ("ab|", 9, lambda n: (n - 1) // 2),
    "induction": ("ABxyz", 6, lambda n: n // 2),
}


@pytest.mark.parametrize("name", STRINGS)
def test_the_probabilities_of_all_texts_sum_to_one(name):
    """Less the probability of more units than the longest of the strings has, which is geometric."""
    (alphabet, longest, units), source = STRINGS[name], SMALL[name]
    strings = ["".join(s) for n in range(longest + 1) for s in itertools.product(alphabet, repeat=n)]
    possible = [(s, p) for s in strings if (p := probability(source, s))]
    total, least = math.fsum(p for _, p in possible), min(units(len(s)) for s, _ in possible)
    mean = {"copy": 2.0, "induction": 1.5}.get(name) or source.length
    stop = 1 / (1 + mean - least)
    assert least == (source.order if "markov" in name else 1)
    assert total == pytest.approx(1 - (1 - stop) ** (units(longest) - least + 1), rel=1e-12)


def test_the_probabilities_of_sums_sum_to_one():
    source = SMALL["arithmetic"]
    lines = [f"{a}+{b}={c}\n" for a in range(11) for b in range(11) for c in range(20)]
    for n, total in ((1, 1 / 2), (2, 1 / 4)):
        right = [line for line in lines if probability(source, line)] if n == 2 else lines
        texts = ("".join(pair) for pair in itertools.product(right, repeat=n))
        assert math.fsum(probability(source, text) for text in texts) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("name", ["markov", "copy", "induction"])
def test_entropy_is_the_mean_over_all_texts(name):
    """By brute force, of sources that hardly ever write more than the strings have room for."""
    (alphabet, longest, _), source = STRINGS[name], SMALL[name]
    source = replace(source, **{"pairs" if name == "induction" else "length": 1.01})
    strings = ("".join(s) for n in range(longest + 1) for s in itertools.product(alphabet, repeat=n))
    texts = {text: p for text in strings if (p := probability(source, text))}
    nats = math.fsum(p * -math.log(p) for p in texts.values())
    length = math.fsum(p * len(text) for text, p in texts.items())
    assert source.entropy.document == pytest.approx(nats, rel=1e-4)
    assert source.entropy.character == pytest.approx(nats / length, rel=1e-4)


@given(n=st.integers(1, 12), K=st.integers(2, 4), V=st.integers(2, 4))
def test_different_keys_by_counting_all_rows(n, K, V):
    """Given n pairs: the entropy of the pairs less that of their number is n ln K + E[different keys] ln V."""
    n = min(n, 5)
    rows = list(itertools.product(range(K), repeat=n))
    exactly = statistics.fmean(len(set(row)) for row in rows)
    assert exactly == pytest.approx(K * (1 - (1 - 1 / K) ** n), rel=1e-12)
    pairs = 2.5
    stop = 1 / pairs
    mean = math.fsum(stop * (1 - stop) ** (n - 1) * K * (1 - (1 - 1 / K) ** n) for n in range(1, 400))
    source = Induction("ABCD"[:K], "abcd"[:V], pairs)
    ends = -math.log(stop) - (pairs - 1) * math.log(1 - stop)
    assert source.entropy.document == pytest.approx(pairs * math.log(K) + mean * math.log(V) + ends, rel=1e-12)


@pytest.mark.parametrize("digits", [1, 2])
def test_characters_of_a_sum_by_counting_all_of_them(digits):
    numbers = range(10**digits)
    length = statistics.fmean(len(f"{a}+{b}={a + b}\n") for a in numbers for b in numbers)
    source = Arithmetic(digits, lines=1)
    assert source.entropy.document == pytest.approx(math.log(100**digits), rel=1e-14)
    assert source.entropy.character == pytest.approx(math.log(100**digits) / length, rel=1e-14)


def test_entropy_of_speeches():
    """The first speaker is one of all, each other one of the rest; after each speech ends one play in three."""
    stop, (nats, characters) = 1 / 3, speech_entropy()
    ends = math.fsum(p * -math.log(p) for p in (stop * (1 - stop) ** n for n in range(300)))
    expected = 3 * nats + math.log(len(CAST)) + 2 * math.log(len(CAST) - 1) + ends
    assert Play(3.0).entropy.document == pytest.approx(expected, rel=1e-12)
    assert Play(3.0).entropy.character == pytest.approx(expected / (3 * characters), rel=1e-12)


def test_sentences_of_an_island_are_equally_likely_and_differ():
    source = Island(5, sentences=1)
    assert len(source.lines) == len(set(source.lines)) == 16 * 7
    assert {source.nats(line) for line in source.lines} == {math.log(112)}
    assert source.entropy.document == pytest.approx(math.log(112), rel=1e-14)
    assert source.entropy.character == pytest.approx(math.log(112) * 112 / len("".join(source.lines)), rel=1e-14)


@pytest.mark.slow
def test_additions_are_right_and_none_is_held_out():
    lines = Additions().lines
    questions = (c.messages[0]["content"] for c in instructions(3000, split="held-out") if c.task == "add")
    asked = {tuple(re.findall("[0-9]+", question)) for question in questions}
    sums = [re.findall("[0-9]+", line) for line in lines]
    assert len(lines) == len(set(lines))
    assert all(int(a) + int(b) == int(c) for a, b, c in sums)
    assert len(asked) > 100
    assert not asked & {(a, b) for a, b, _ in sums}
    assert 0.83 < len(lines) / 3 / 40**2 < 0.91


def test_a_world_is_the_same_under_every_seed_and_its_people_have_their_own_crafts():
    assert people(1) != people(2)
    assert Island(1).lines == Island(1, sentences=30).lines
    for world in range(3):
        assert [person.name for person in people(world)] == WORDS["name"].split()
        assert sorted(person.craft for person in people(world)) == sorted(WORDS["craft"].split())


@a_source
def test_entropy_is_the_mean_of_what_documents_cost(source):
    """Within four standard errors, which are small enough that an error of 5 % would show."""
    documents = list(source.documents(1000 if isinstance(source, Play) else 4000, seed=5))
    nats = [source.nats(text) for text in documents]
    h, entropy = source.entropy.character, source.entropy.document
    for surplus in ([n - entropy for n in nats], [n - h * len(text) for n, text in zip(nats, documents, strict=True)]):
        error = statistics.stdev(surplus) / math.sqrt(len(surplus))
        assert abs(statistics.fmean(surplus)) < 4 * error
        assert error < 0.05 * entropy


# ---- documents


@every_source
@quick
@given(seed=st.integers(0, 2**64 - 1), count=st.integers(0, 5))
def test_a_document_is_a_function_of_its_seed_and_number(source, seed, count):
    documents = list(source.documents(count, seed))
    assert len(documents) == count
    longer = source.documents(count + 2, seed)
    next(source.documents(3, seed + 1 if seed < 9 else 0))
    assert [text for text, _ in zip(longer, documents, strict=False)] == documents
    assert list(replace(source).documents(count, seed)) == documents
    first = seed % 6
    assert list(source.documents(count, seed, first)) == documents[first:]
    for text in documents:
        assert 0 < source.nats(text) < math.inf


@pytest.mark.parametrize("source", USUAL.values(), ids=USUAL)
def test_seeds_and_numbers_give_other_documents(source):
    documents = [text for seed in range(5) for text in source.documents(20, seed)]
    assert len(set(documents)) > 95


@pytest.mark.parametrize(
    ("kind", "first", "third"),
    [
        ("markov", "adahggfeebffcfcdgaaedbhbecabahhabahhhcabagfefhebgeahhhf", "cagfhddddhbh"),
        ("copy", "tuwcokfhwmc|tuwcokfhwmc", "hueuqmnyyjepglcjpgnzg|"),
        ("induction", "ByEqGyFjByAaHvByClEqByHvEqEqDsClGyGyFjAaFjByGyByByAaHv", "GbHxBqBqHxFrDmBqAaGbFr"),
        ("arithmetic", "1+95=96\n82+92=174\n92+15=107\n66+31=97\n27+58=85\n81+53=13", "21+95=116\n73+52=125\n"),
        ("island", "The pet of Cedo is a mule.\n", "Ebba is the clerk.\n"),
        ("additions", "Add 40 and 36. 76\n31 + 17 = ? 48\n", "Add 11 and 37. 48\n"),
        ("play", "GOOSE:\nWho ate him,\nYon pie is wet?\n", "CAT:\nHark, da,\n"),
    ],
)
def test_the_documents_of_a_seed_never_change(kind, first, third):
    """Whatever was drawn for earlier ones."""
    documents = list(USUAL[kind].documents(3, 3))
    assert documents[0].startswith(first)
    assert documents[2].startswith(third)


def test_a_language_is_the_same_under_every_seed():
    one, other = Markov(1, "ab", language=1), Markov(1, "ab", language=2)
    assert one.nats("abab") != other.nats("abab")
    assert one.chain.P.tolist() == Markov(1, "ab", 50, language=1).chain.P.tolist()


def test_a_repeated_half_and_a_known_pair_cost_nothing():
    copy, induction = Copy("abcd", 8), Induction("AB", "xyz", 8)
    stop, go = math.log(8), math.log(8 / 7)
    assert copy.nats("abca|abca") == pytest.approx(4 * math.log(4) + 3 * go + stop)
    assert induction.nats("AxBy") == pytest.approx(2 * math.log(2) + 2 * math.log(3) + go + stop)
    assert induction.nats("AxAx") == pytest.approx(2 * math.log(2) + math.log(3) + go + stop)


# ---- what is refused


@pytest.mark.parametrize(
    ("source", "text", "complaint"),
    [
        (SMALL["markov"], "", "expected 1 characters or more"),
        (SMALL["markov"], "abxy", "the alphabet 'ab' lacks 'xy'"),
        (SMALL["copy"], "ab|ba", "found 'ab|ba'"),
        (SMALL["copy"], "|", "expected a string"),
        (SMALL["copy"], "ab", "and the same string"),
        (SMALL["copy"], "ab|ab|ab", "and the same string"),
        (SMALL["copy"], "ac|ac", "expected a string of 'ab'"),
        (SMALL["copy"], "", "and the same string"),
        (Copy("ab", 1), "ab|ab", "ends after its first unit; this one has 1 more"),
        (SMALL["induction"], "AxBxAy", "'Ay' is not a pair of this source, or contradicts the first 'A'"),
        (SMALL["induction"], "AxB", "expected pairs, found 'AxB'"),
        (SMALL["induction"], "", "expected pairs"),
        (SMALL["induction"], "Aa", "'Aa' is not a pair"),
        (SMALL["induction"], "xA", "'xA' is not a pair"),
        (SMALL["arithmetic"], "1+1=3\n", "'1\\+1=3' is not a sum"),
        (SMALL["arithmetic"], "10+1=11\n", "'10\\+1=11' is not a sum of two numbers of at most 1 digits"),
        (SMALL["arithmetic"], "01+1=2\n", "is not a sum"),
        (SMALL["arithmetic"], "1+1=2", "ends with a line end"),
        (SMALL["arithmetic"], "1+1=2\n1+1=2", "ends with a line end; this one with '1\\+1=2'"),
        (SMALL["arithmetic"], "", "ends with a line end"),
        (SMALL["arithmetic"], "\n", "'' is not a sum"),
        (SMALL["arithmetic"], "١+1=2\n", "is not a sum"),
        (SMALL["island"], "", "expected a sentence or more"),
        (
            SMALL["island"],
            "Nobody is the baker.\n",
            "island: 'Nobody is the baker.\\\\n' is not a sentence of this source",
        ),
        (SMALL["island"], SMALL["island"].lines[0].rstrip(), "is not a sentence"),
        (Additions(), "14 + 37 = ? 50\n", "additions: '14 \\+ 37 = \\? 50\\\\n' is not a sentence"),
        (SMALL["play"], "", "expected a speech"),
        (SMALL["play"], "PAGE:\nI ate thee.\n\n", "speech 1"),
    ],
)
def test_a_text_of_another_source_is_refused(source, text, complaint):
    with pytest.raises(TokenError, match=complaint):
        source.nats(text)


@quick
@given(st.text(max_size=12) | st.text("ab|AxB+=0123\n", max_size=12))
def test_any_text_has_a_probability_or_is_refused(text):
    for source in SMALL.values():
        assert 0 <= probability(source, text) < 1


def test_speeches_cost_their_information_and_their_end():
    source = Play(3.0)
    for text in source.documents(20, 0):
        n = text.count("\n\n")
        assert source.nats(text) == pytest.approx(play_nats(text) - math.log(1 / 3) - (n - 1) * math.log(2 / 3))


# ---- from a table


def test_a_table_makes_a_source():
    table = {"kind": "markov", "documents": 10, "seed": 3, "order": 1, "concentration": Decimal("0.5"), "length": 7}
    assert make_synthetic_source(table) == Markov(order=1, concentration=0.5, length=7)
    assert table["concentration"] == Decimal("0.5")
    assert {kind: type(make_synthetic_source({"kind": kind, "documents": 1})) for kind in KINDS} == KINDS


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (
            {"kind": "marcov", "documents": 1},
            ["kind 'marcov' is unknown; expected one of markov, copy, induction, arith"],
        ),
        ({"documents": 1}, ["kind None is unknown"]),
        ({"kind": ["copy"], "documents": 1}, ["kind ['copy'] is unknown"]),
        ({"kind": "copy"}, ["documents: expected a whole number from 1 to 9223372036854775807, found none; say how"]),
        (
            {"kind": "copy", "documents": 0, "seed": -1, "lenght": 3, "length": 0.5, "alphabet": "aa"},
            [
                "synthetic copy: 5 problems",
                "documents: expected a whole number from 1 to ",
                "seed: expected a whole number from 0 to ",
                "'lenght' is unknown; expected one of alphabet, length, documents, seed",
                "length: expected a number of at least 1, found 0.5",
                "alphabet: expected two different characters or more, none of them '|', found 'aa'",
            ],
        ),
        ({"kind": "copy", "documents": True, "alphabet": "a|"}, ["documents: expected", "alphabet: expected"]),
        (
            {"kind": "arithmetic", "documents": 1, "digits": 19},
            ["digits: expected a whole number from 1 to 18, found 19"],
        ),
        ({"kind": "arithmetic", "documents": 1, "digits": 2.0, "lines": math.inf}, ["digits: ", "lines: "]),
        ({"kind": "markov", "documents": 1, "order": 5, "length": 4}, ["a length of 4 is less than the order, 5"]),
        ({"kind": "markov", "documents": 1, "order": 5}, ["32,768 contexts are more than 2,048; lower"]),
        ({"kind": "markov", "documents": 1, "concentration": 0}, ["concentration: expected a number of at least 0.05"]),
    ],
)
def test_what_is_wrong_in_a_table_is_told(table, lines):
    with pytest.raises(ConfigError) as caught:
        make_synthetic_source(table)
    for line in lines:
        assert line in str(caught.value)


def test_a_source_made_by_hand_is_checked_too():
    with pytest.raises(ConfigError, match=r"Copy: 2 problems\n  alphabet: .*\n  length: expected a number"):
        Copy(alphabet="a", length="5")
    assert isinstance(Markov().chain, Chain)
