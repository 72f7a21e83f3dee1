"""The made-up conversations: fixed by seed and number, split without overlap, right by their own verifiers."""

import itertools
import math
import statistics
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lm.data.__main__ import main
from tinygrad_lm.data.synthetic.instructions import HELD_OUT, TASK_NAMES, instructions, split_of
from tinygrad_lm.data.synthetic.island import Island, people
from tinygrad_lm.data.synthetic.play import play_nats
from tinygrad_lm.data.synthetic.speeches import (
    GO_ON,
    count_lines,
    fewer_lines,
    label_floors,
    play_conversations,
    play_pairs,
)
from tinygrad_lm.data.synthetic.sums import sums, sums_entropy
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data.json_lines import read_conversations, read_pairs, read_prompts
from tinygrad_lm.posttrain.verifiers.verifiers import VERIFIERS

KINDS = {"instructions": instructions, "sums": sums, "play": play_conversations, "pairs": play_pairs}
every_kind = pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
quick = settings(max_examples=20)


def prompt(conversation):
    return tuple(message["content"] for message in conversation.messages[:-1])


@pytest.fixture(scope="module")
def drawn():
    """{split: instructions}"""
    return {"train": list(instructions(8000)), "held-out": list(instructions(2000, split="held-out"))}


# ---- a function of (seed, split, number)


@every_kind
@quick
@given(st.integers(0, 2**64 - 1), st.integers(0, 5), st.sampled_from(["train", "held-out"]))
def test_a_conversation_is_a_function_of_seed_split_and_number(draw, seed, count, split):
    some = list(draw(count, seed, split))
    assert len(some) == count
    assert list(itertools.islice(draw(count + 3, seed, split), count)) == some
    assert list(draw(count, seed, split, first=2)) == some[2:]


@every_kind
def test_seeds_splits_and_numbers_give_other_conversations(draw):
    several = [str(c) for seed in (0, 1) for split in ("train", "held-out") for c in draw(25, seed, split)]
    assert len(set(several)) > 90


@every_kind
def test_other_splits_are_refused(draw):
    with pytest.raises(ConfigError, match="split 'test' is unknown; expected train or held-out"):
        next(draw(1, 0, "test"))


def test_the_conversations_of_a_seed_never_change():
    shown = [(*prompt(c), c.messages[-1]["content"], c.answer) for c in instructions(3, 1)]
    assert shown == INSTRUCTIONS
    assert [(*prompt(c), c.messages[-1]["content"], c.answer) for c in sums(3, 1, noise=0.5)] == SUMS
    assert [(*prompt(c), c.messages[-1]["content"]) for c in play_conversations(1, 1)] == PLAY


INSTRUCTIONS = [
    ("Put ijd in order.", "dij", "dij"),
    ("Say it louder: rok", "ROK", "ROK"),
    ("Copy this: likip ivof mumika", "likip ivof mumika", "likip ivof mumika"),
]
SUMS = [("12+65=", "477", "077"), ("86+59=", "145", "145"), ("81+28=", "119", "109")]
PLAY = [("FOOL", "Boil thee!\nNay, di ze pe!\nHer eel shot them?\nYon ham is tiny?\nMy aunt is wise?")]


# ---- the instruction set


@pytest.mark.slow
def test_every_answer_is_right_and_well_formed(drawn):
    for conversation in drawn["train"] + drawn["held-out"]:
        *_, last = conversation.messages
        assert [m["role"] for m in conversation.messages] == ["user", "assistant"] * (len(conversation.messages) // 2)
        assert VERIFIERS[conversation.verifier](last["content"], conversation.answer) == 1
        assert all("{" not in text and text == text.strip() for text in prompt(conversation))


@pytest.mark.slow
def test_all_tasks_are_equally_frequent(drawn):
    counts = Counter(conversation.task for conversation in drawn["train"])
    assert counts.keys() == set(TASK_NAMES)
    for n in counts.values():
        assert abs(n - 800) < 5 * math.sqrt(800)


@pytest.mark.slow
def test_a_follow_up_repeats_the_answer_louder(drawn):
    louder = [conversation for conversation in drawn["train"] if conversation.task == "again"]
    for conversation in louder:
        _, first, _, second = (message["content"] for message in conversation.messages)
        assert second == conversation.answer == first.upper() != first


def by_hand(question, earlier, facts):
    """The answer of a question, found in its words: an implementation that shares nothing with the phrasings."""
    words = question.translate(str.maketrans(".,:?!+", "      ")).split()
    numbers = [int(word) for word in words if word.isdigit()]
    if earlier:
        return earlier.upper()
    if known := [person for person in facts if person.name in words]:
        about = [["do", "craft"], ["live", "home"], ["pet"]]
        return next(known[0][i] for i, some in enumerate(about, start=1) if set(some) & set(words))
    if known := [person for person in facts if person.craft in words]:
        return known[0].name
    if numbers:
        return str(
            max(numbers) if {"larger", "maximum"} & set(question.lower().translate(DELETE).split()) else sum(numbers)
        )
    if "\n" in question:
        return str(question.count("\n"))
    lower = question.lower()
    for sign, answer in ANSWERS.items():
        if sign in lower:
            return answer(lower)
    raise AssertionError(question)


DELETE = str.maketrans("", "", ".,:?!")
last = lambda question: question.translate(DELETE).split()[-1]
behind = lambda question: question.partition(": ")[2]
ANSWERS = {
    "sort the letters": lambda q: "".join(sorted(last(q))),
    "in order": lambda q: "".join(sorted(q.split()[1])),
    "alphabetical": lambda q: "".join(sorted(last(q))),
    "reverse": lambda q: last(q)[::-1],
    "backwards": lambda q: q.split()[2][::-1],
    "around": lambda q: q.split()[1][::-1],
    "how many letters": lambda q: str(len(last(q))),
    "count the letters": lambda q: str(len(last(q))),
    "how long": lambda q: str(len(last(q))),
    "louder: ": lambda q: behind(q).upper(),
    "shout": lambda q: q[6:-1].upper(),
    "capitals: ": lambda q: behind(q).upper(),
    "repeat: ": behind,
    "copy this: ": behind,
    "please": lambda q: q.removeprefix("say ").removesuffix(", please."),
}


def test_answers_are_what_the_words_ask_for(drawn):
    facts = people(0)
    for conversation in drawn["train"][:3000]:
        *earlier, question = prompt(conversation)
        assert conversation.answer == by_hand(question, earlier and earlier[-1], facts), question


def test_no_prompt_is_in_both_splits(drawn):
    train, held_out = ({prompt(c) for c in drawn[split]} for split in ("train", "held-out"))
    assert not train & held_out
    firsts = [{texts[0] for texts in split} for split in (train, held_out)]
    assert not firsts[0] & firsts[1]  # of a follow-up neither


def test_a_held_out_sum_is_in_no_words_in_training(drawn):
    operands = {}
    for split, conversations in drawn.items():
        texts = [prompt(c)[0] for c in conversations if c.task == "add"]
        operands[split] = {tuple("".join(c if c.isdigit() else " " for c in text).split()) for text in texts}
    assert len(operands["held-out"]) > 100
    assert not operands["train"] & operands["held-out"]


def test_every_fact_of_the_island_is_asked_about_and_told(drawn):
    """Held-out questions can be answered: their facts are in the island's text, and most are asked in other words."""
    facts = {(p.name, fact) for p in people(0) for fact in p[1:]}
    told = {
        (p.name, fact)
        for p in people(0)
        for fact in p[1:]
        for line in Island().lines
        if p.name in line and fact in line
    }
    assert told == facts
    asked = {(text, c.answer) for c in drawn["train"] + drawn["held-out"] if c.task == "island" for text in prompt(c)}
    assert {answer for _, answer in asked} == {value for person in people(0) for value in person}


def test_the_share_held_out():
    keys = [f"add {a} {b}" for a in range(100) for b in range(100)]
    held_out = sum(split_of(key) == "held-out" for key in keys)
    assert abs(held_out - len(keys) / HELD_OUT) < 5 * math.sqrt(len(keys) / HELD_OUT)


def test_another_world_has_other_answers():
    one, other = (
        {prompt(c): c.answer for c in instructions(500, world=world) if c.task == "island"} for world in (0, 1)
    )
    both = one.keys() & other.keys()
    assert len(both) > 10
    assert sum(one[p] != other[p] for p in both) > len(both) / 2


# ---- sums


@given(st.floats(0, 0.99))
def test_the_entropy_of_a_demonstration_by_brute_force(noise):
    """Over all answers of three digits that differ from 022 in one."""
    wrong = [digits for digits in itertools.product("0123456789", repeat=3)
             if sum(a != b for a, b in zip(digits, "022", strict=True)) == 1]  # fmt: skip
    shown = [1 - noise] + [noise / len(wrong) for _ in wrong]
    assert sums_entropy(noise) == pytest.approx(-math.fsum(p * math.log(p) for p in shown if p), rel=1e-12)


def test_demonstrations_are_wrong_as_often_as_asked_for_and_in_all_ways_equally():
    demonstrations = list(sums(6000, noise=0.5))
    wrong = [(c.messages[-1]["content"], c.answer) for c in demonstrations if c.messages[-1]["content"] != c.answer]
    assert abs(len(wrong) - 3000) < 5 * math.sqrt(1500)
    places = Counter(
        (
            (i, (int(a) - int(b)) % 10)
            for one, two in wrong
            for i, (a, b) in enumerate(zip(one, two, strict=True))
            if a != b
        )
    )
    assert sum(places.values()) == len(wrong)
    assert len(places) == 27
    assert sum((n - len(wrong) / 27) ** 2 for n in places.values()) / (len(wrong) / 27) < 60  # χ² of 26, p < 2e-4
    assert all(c.messages[-1]["content"] == c.answer for c in sums(500))


def test_sums_are_right_and_split():
    train, held_out = ({prompt(c)[0]: c.answer for c in sums(3000, split=split)} for split in ("train", "held-out"))
    assert not train.keys() & held_out.keys()
    for text, answer in (train | held_out).items():
        assert len(text) == 6
        assert answer == f"{int(text[:2]) + int(text[3:5]):03}"


@pytest.mark.parametrize("noise", [-0.1, 1, math.nan])
def test_impossible_noise_is_refused(noise):
    with pytest.raises(ConfigError, match=f"noise must be at least 0 and below 1, found {noise}"):
        sums(1, noise=noise)


# ---- speeches


def test_speeches_are_the_play():
    for conversation in play_conversations(100):
        (name,) = prompt(conversation)
        assert play_nats(f"{name}:\n{conversation.messages[-1]['content']}\n\n") > 0
        assert (conversation.answer, conversation.verifier) == ("speech", "grammar")


def test_lines_are_geometric():
    lines = [count_lines(c.messages[-1]["content"]) for c in play_conversations(2000)]
    assert pytest.approx(2 / 3) == GO_ON
    for n in (1, 2, 3):
        p = (1 - GO_ON) * GO_ON ** (n - 1)
        assert abs(lines.count(n) / 2000 - p) < 4 * math.sqrt(p * (1 - p) / 2000)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_the_optimum_by_brute_force(beta):
    """π* ∝ π exp(−n/β) as a table, and its objective above that of its neighbours."""
    numbers = range(1, 400)
    reference = [(1 - GO_ON) * GO_ON ** (n - 1) for n in numbers]
    weights = [p * math.exp(-n / beta) for n, p in zip(numbers, reference, strict=True)]
    Z = math.fsum(weights)
    best = [w / Z for w in weights]

    def measure(policy):
        lines = math.fsum(n * p for n, p in zip(numbers, policy, strict=True))
        kl = math.fsum(p * math.log(p / r) for p, r in zip(policy, reference, strict=True) if p)
        return lines, kl, -lines - beta * kl

    assert fewer_lines(beta) == pytest.approx(measure(best), rel=1e-12)
    assert fewer_lines(beta).objective == pytest.approx(beta * math.log(Z), rel=1e-12)
    for other in (0.9, 1.1):
        tilted = [p * math.exp(-n / beta / other) for n, p in zip(numbers, reference, strict=True)]
        assert measure([p / math.fsum(tilted) for p in tilted])[2] < fewer_lines(beta).objective


def test_without_a_reward_the_optimum_is_the_grammar():
    assert fewer_lines(math.inf) == pytest.approx((3, 0, -3))


def test_the_floors_of_labels_by_brute_force():
    nats = accuracy = 0.0
    p = [(1 - GO_ON) * GO_ON ** (n - 1) for n in range(1, 150)]
    for (a, P), (b, Q) in itertools.product(enumerate(p), repeat=2):
        right = 1 / (1 + math.exp(-abs(a - b)))
        nats -= P * Q * (right * math.log(right) + ((1 - right) * math.log(1 - right) if right < 1 else 0))
        accuracy += P * Q * right
    assert label_floors() == pytest.approx((nats, accuracy), rel=1e-9)


@pytest.mark.slow
def test_pairs_are_labelled_as_often_as_their_probability():
    """What the best possible labeller loses and how often it is right, on drawn pairs, are the floors."""
    d = [count_lines(pair.rejected) - count_lines(pair.chosen) for pair in play_pairs(3000)]
    loss = [math.log1p(math.exp(-x)) for x in d]
    right = [1.0 if x > 0 else 0.5 if x == 0 else 0.0 for x in d]
    for seen, expected in zip((loss, right), label_floors(), strict=True):
        assert abs(statistics.fmean(seen) - expected) < 4 * statistics.stdev(seen) / math.sqrt(len(seen))
    assert all(pair.prompt[0]["content"].isupper() for pair in play_pairs(20))


# ---- as files


@pytest.mark.parametrize("name", ["instructions", "sums", "play"])
def test_files_are_read_as_what_was_drawn(name, tmp_path, capsys):
    chat, options = Chat(ByteTokenizer()), ["--noise", 0.5] if name == "sums" else []
    assert main(["conversations", name, "--out", tmp_path, "--count", 7, "--held-out", 3, "--seed", 2, *options]) == 0
    draw = KINDS[name]
    for split, count in (("train", 7), ("held-out", 3)):
        expected = list(draw(count, 2, split, **{"noise": 0.5} if name == "sums" else {}))
        shown = read_conversations(tmp_path / f"{split}.jsonl", chat)
        assert [(c.task, c.messages) for c in shown] == [(c.task, c.messages) for c in expected]
        prompts = [c._replace(messages=c.messages[:-1]) for c in expected]
        assert read_prompts(tmp_path / f"{split}-prompts.jsonl") == prompts
        if name == "play":
            assert read_pairs(tmp_path / f"{split}-pairs.jsonl", chat) == list(play_pairs(count, 2, split))
    assert len(list(tmp_path.iterdir())) == capsys.readouterr().out.count(" lines\n") == (6 if name == "play" else 4)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["sums", "--count", 0], "at least 1, found 0"),
        (["sums", "--noise", 1], "noise must be at least 0 and below 1, found 1"),
        (["play", "--noise", 0.5], "--noise must be 0 but for sums, found 0.5"),
        (["sums", "--seed", -1], "a seed is a whole number"),
    ],
)
def test_impossible_files_are_refused(options, complaint, tmp_path, capsys):
    assert main(["conversations", *options, "--out", tmp_path]) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
