"""The programs examples/prefer.py and examples/reinforce.py, on a model and data that are small enough for a test."""

import json
import math
from itertools import product

import numpy as np
import pytest
from slow import first_of_each, slow_but
from small_chats import make_base, turns
from small_run import after_update, example, results, status, without_pictures

from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.data.conversations import answered
from tinygrad_lm.posttrain.data.preferences import Comparisons, Preferences, evaluate_pairs, every_score
from tinygrad_lm.posttrain.data.prompts import load_pairs
from tinygrad_lm.posttrain.reward import load_reward, scored
from tinygrad_lm.posttrain.run import ChatRun
from tinygrad_lm.testing.checks import agree
from tinygrad_lm.train.objective import IGNORED

WORDS = ["".join(letters) for n in (1, 2, 3) for letters in product("ab", repeat=n)]
REINFORCE = ["--batch-size", 8, "--limit", 4, "--lr", 0.003, "--steps", 4, "--eval-every", 2]
PREFER = ["--batch-size", 4, "--lr", 0.003, "--steps", 4, "--eval-every", 2]
METHODS = {
    "rloo": ["--method", "rloo", "--group", 4, "--beta", 0.1],
    "grpo": ["--method", "grpo", "--group", 4, "--lora", 2],
    "ppo": ["--method", "ppo", "--passes", 2],
}
PAIRS = {"dpo": ["--beta", 0.5], "reward": ["--reward"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model; prompts, a word to be answered by its first letter; and pairs, of which the shorter answer is better."""
    folder = tmp_path_factory.mktemp("rewards")
    make_base(folder / "base", CharTokenizer(" ab"))
    prompts = [{"prompt": word, "answer": word[0], "verifier": "equal"} for word in WORDS]
    pairs = [{"prompt": a, "chosen": b, "rejected": b + c} for a, b, c in product(WORDS, WORDS[:4], "ab")]
    for name, lines in (("prompts", prompts), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    without_pictures(monkeypatch)


def run(name, *arguments):
    """Run a program of examples/; returns its exit status."""
    return status(example(name).main, *arguments)


@pytest.fixture(scope="module")
def start(folder):
    """start(way, out): a run of either program. Returns the exit status."""

    def start(way, out):
        if way in METHODS:
            data = ["--data", folder / "prompts.jsonl", *REINFORCE, *METHODS[way]]
            return run("reinforce", folder / "base", *data, "--out", out)
        return run("prefer", folder / "base", "--data", folder / "pairs.jsonl", *PREFER, *PAIRS[way], "--out", out)

    return start


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """undisturbed(way): the folder of a run of four steps, made once."""
    folder, made = tmp_path_factory.mktemp("undisturbed"), set()

    def undisturbed(way):
        if way not in made:
            with pytest.MonkeyPatch.context() as patch:
                without_pictures(patch)
                assert start(way, folder / way) == 0
            made.add(way)
        return folder / way

    return undisturbed


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


@pytest.mark.parametrize(
    ("way", "stop"),
    first_of_each(
        [("ppo", 3), ("ppo", 1), ("rloo", 1), ("rloo", 3), ("grpo", 3), ("dpo", 3), ("dpo", 1), ("reward", 3)],
        lambda place: place[0] in METHODS,
    ),
)
def test_resumed_at_any_step_it_is_the_run_without_a_stop(way, stop, start, undisturbed, tmp_path, monkeypatch):
    """Bit for bit: answers that were drawn after the last checkpoint are drawn again."""
    folder = tmp_path / "run"

    def gone(step):
        if step == stop:
            raise Gone

    with monkeypatch.context() as patch:
        after_update(patch, gone)
        with pytest.raises(Gone):
            start(way, folder)
    assert run("reinforce" if way in METHODS else "prefer", "--resume", folder) == 0
    assert results(folder) == results(undisturbed(way))
    assert (folder / "samples.txt").read_bytes() == (undisturbed(way) / "samples.txt").read_bytes()


@pytest.mark.parametrize("way", slow_but(["rloo", "ppo", "dpo"], "ppo"))
def test_the_number_of_threads_changes_no_bit(way, start, undisturbed, tmp_path, monkeypatch):
    """The run's shares fix the order of all sums; here one thread computes what two did."""
    shares = ChatRun(undisturbed(way)).config["shares"]
    assert shares > 1, "one core alone: nothing to compare"
    monkeypatch.setattr("tinygrad_lm.train.shares.cores", lambda: 1)
    for module in ("train.shares", "posttrain.policy.policy_run"):  # where the programs find it
        monkeypatch.setattr(f"tinygrad_lm.{module}.default_shares", lambda config, *device: shares)
    assert start(way, tmp_path / "run") == 0
    assert ChatRun(tmp_path / "run").config["shares"] == shares
    assert results(tmp_path / "run")[:2] == results(undisturbed(way))[:2]


@pytest.mark.parametrize("way", slow_but(METHODS, "ppo"))
def test_what_a_policy_run_says(way, undisturbed):
    """The log has rewards and what came of them; the surrogate is not called a loss; the reference is the base."""
    run = ChatRun(undisturbed(way))
    records = [record for record in run.log.records if "reward" in record]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    names = {"kl", "kl3", "reward_error", "length", "ended", "silent", "entropy", "surrogate"}
    assert all(names <= record.keys() and "loss" not in record for record in records)
    assert records[0]["kl"] == 0
    passes = run.config["method"]["passes"]
    assert run.log.curve("validation")[0] == [0, 2, 4]
    if passes == 2:  # the second update learns from the same answers
        assert records[0]["reward"] == records[1]["reward"]
    _, failures = run.log.curve("validation")
    assert all(0 <= failure <= 1 for failure in failures)
    base, (before, _) = run.base_model("cpu"), load_chat(run.config["base"])
    assert base.flat.data.tobytes() == before.flat.data.tobytes()
    assert "user: " in (run.path / "samples.txt").read_text()


def test_a_run_with_a_value_head_is_a_model_to_talk_to(undisturbed):
    model, chat = load_chat(undisturbed("ppo"))
    assert "score.weight" not in model.flat
    assert model.config.vocab_size == chat.vocab_size


@pytest.mark.slow
def test_rewards_make_right_answers_likely(folder, tmp_path):
    options = ["--batch-size", 64, "--limit", 2, "--lr", 0.01, "--steps", 40, "--eval-every", 40]
    assert (
        run("reinforce", folder / "base", "--data", folder / "prompts.jsonl", *options, "--out", tmp_path / "run") == 0
    )
    failures = ChatRun(tmp_path / "run").log.curve("validation")[1]
    assert failures[-1] < 0.5 < 0.7 < failures[0]


# ---- preferences


def test_dpo_begins_without_a_preference(undisturbed):
    """log 2, and no difference from the reference: its log-probabilities are those of the same weights."""
    run = ChatRun(undisturbed("dpo"))
    first, *_, last = (record for record in run.log.records if "validation" in record)
    agree(first["validation"], math.log(2), "loss", 1e-6)
    assert abs(first["chosen"]) < 1e-5 > abs(first["rejected"])
    assert last["validation"] < first["validation"]
    agree(last["margin"], last["chosen"] - last["rejected"], "margin", 1e-6)
    assert {"accuracy", "chosen", "rejected", "margin"} <= last.keys()


@pytest.mark.slow
def test_a_run_of_preferences_draws_its_picture(undisturbed, monkeypatch):
    folder = undisturbed("dpo")
    monkeypatch.undo()
    example("prefer").PreferenceRun(folder).draw()
    assert (folder / "preferences.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_references_belong_to_their_pairs(folder):
    """Computed in batches of pairs of about one length, they lie with the pairs in their order."""
    model, chat = load_chat(folder / "base", dtype="float64")
    pairs, _ = load_pairs(folder / "pairs.jsonl", chat)
    stream = Preferences(pairs, chat, 4, 48, reference=model, beta=0.5)
    for pair, row in zip(pairs, stream.rows, strict=True):
        for text, logp in zip((pair.chosen, pair.rejected), row[2], strict=True):
            tokens, targets = answered(chat, pair.prompt, text)[:, None]
            agree(logp, model.log_probability(tokens, targets).data.sum(), "log P", 1e-12)
    model.flat.data *= 1.1
    expected = [
        [
            model.log_probability(*answered(chat, pair.prompt, text)[:, None]).data.sum() - logp
            for text, logp in zip((pair.chosen, pair.rejected), row[2], strict=True)
        ]
        for pair, row in zip(pairs, stream.rows, strict=True)
    ]
    agree(every_score(stream, model), np.array(expected), "log π/π_ref", 1e-12)
    loss, _, figures = evaluate_pairs(model, stream)
    margins = np.diff(-np.array(expected), axis=1)[:, 0]
    agree(loss, np.log1p(np.exp(-0.5 * margins)).mean(), "loss", 1e-12)
    agree(figures["accuracy"], (margins > 0).mean(), "accuracy", 1e-12)


def test_a_tie_is_half_right(folder):
    model, chat = load_chat(folder / "base")
    _, held_out = load_pairs(folder / "pairs.jsonl", chat)
    loss, _, figures = evaluate_pairs(scored(model), Comparisons(held_out, chat, 4, 48))
    assert figures["accuracy"] == 0.5
    agree(loss, math.log(2), "loss", 1e-6)


@pytest.mark.slow
def test_a_reward_model_is_saved_and_judges(folder, undisturbed, tmp_path):
    """A policy can be trained by it; a run without a head is refused."""
    teacher = load_reward(undisturbed("reward"), "cpu")
    assert teacher.score.weight.data.any()
    options = ["--data", folder / "prompts.jsonl", *REINFORCE, "--reward", undisturbed("reward"), "--group", 4]
    assert run("reinforce", folder / "base", *options, "--out", tmp_path / "run") == 0
    steps, validation = ChatRun(tmp_path / "run").log.curve("validation")
    assert steps == [0, 2, 4]
    assert validation[-1] < validation[0]  # minus the reward
    assert run("reinforce", folder / "base", *options[:-3], folder / "base", "--out", tmp_path / "no") == 2


def test_what_is_missing_is_said(folder, capsys):
    assert run("reinforce", folder / "base") == 2
    assert "--data what to ask it" in capsys.readouterr().err
    assert run("prefer", folder / "base", "--data", folder / "pairs.jsonl", "--beta", 0) == 2
    assert "--beta must be above 0, found 0.0" in capsys.readouterr().err
    assert run("reinforce", folder / "base", "--data", folder / "nothing.jsonl") == 2
    assert "nothing.jsonl" in capsys.readouterr().err


def test_the_end_of_a_pair_is_learnt(folder):
    _, chat = load_chat(folder / "base")
    _, targets = answered(chat, turns("ab"), "b")
    assert targets[targets != IGNORED].tolist() == chat.answer("b").tolist()
