"""Supervised fine-tuning: examples/finetune_chat.py on a model and conversations that are small enough for a test."""

import json
import re
import shutil
from itertools import product

import pytest
from slow import first_of_each, slow_but
from small_chats import make_base, turns
from small_run import after_update, editing, results, teach

from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.data.conversations import Conversations
from tinygrad_lm.posttrain.data.prompts import load_conversations
from tinygrad_lm.posttrain.measure import Examination, evaluate_conversations, exact_match
from tinygrad_lm.posttrain.run import ChatRun
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.trainer import Trainer

SMALL = ["--batch-size", 4, "--lr", 0.01]
WAYS = {"all": [], "adapters": ["--lora", 2], "frozen": ["--freeze", "wte.*", "h.0.*"], "packed": ["--packed"]}
every_way = pytest.mark.parametrize("way", WAYS)
WORDS = ["".join(letters) for n in (1, 2, 3) for letters in product("abc", repeat=n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A foundation model, and conversations, of which two are too long: a word is answered by its first letter."""
    folder = tmp_path_factory.mktemp("chat")
    make_base(folder / "base", CharTokenizer(" abc"), n_embd=32)
    asked = [turns(word, word[0]) for word in WORDS] + [turns(a, a[0], b, b[0]) for a in WORDS for b in WORDS[3:6]]
    asked += [turns("a" * 60, "a"), turns("b" * 60, "b")]  # by their hashes one is held out
    lines = [json.dumps({"messages": messages, "task": str(len(messages))}) for messages in asked]
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def start(folder):
    """start(out, ...): a new run. Returns the exit status."""
    return lambda out, *options: teach(folder / "base", "--data", folder / "data.jsonl", "--out", out, *SMALL, *options)


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """undisturbed(way): that run of four steps with an evaluation after 0, 2 and 4, made once."""
    folder, made = tmp_path_factory.mktemp("undisturbed"), set()

    def undisturbed(way):
        if way not in made:
            assert start(folder / way, "--steps", 4, "--eval-every", 2, *WAYS[way]) == 0
            made.add(way)
        return folder / way

    return undisturbed


def weights(run, which="newest"):
    return ChatRun(run).read_checkpoint(which)[1]["model"]


# ---- what it does


@pytest.mark.parametrize("way", slow_but(WAYS, "adapters"))
def test_it_begins_with_the_loss_of_the_foundation_model(way, folder, undisturbed):
    run = ChatRun(undisturbed(way))
    model, chat = load_chat(folder / "base")
    _, held_out = load_conversations(folder / "data.jsonl", chat)
    expected = evaluate_conversations(model, Conversations(held_out, chat, 4, 48))
    steps, losses = run.log.curve("validation")
    assert steps == [0, 2, 4]
    assert losses[0] == pytest.approx(expected, rel=1e-6)
    assert run.log.curve("loss")[0] == [1, 2, 3, 4]
    assert run.log.curve("right")[0] == steps
    assert run.config["measure"] == ["validation loss", "nats a learnt token"]


@every_way
def test_only_what_is_trained_has_moved(way, undisturbed):
    run = ChatRun(undisturbed(way))
    before, after, trained = run.base_model("cpu").flat, weights(run.path), run.initial_model("cpu").flat.trained
    assert trained
    for name in before:
        assert (before[name].data != after[name]).any() == (name in trained), name


@pytest.mark.slow
def test_it_learns_to_answer_and_to_end(start, folder, tmp_path, capsys):
    """What is printed before and after: losses, and the share of right answers, of both splits and by task."""
    assert start(tmp_path / "run", "--steps", 60, "--eval-every", 60) == 0
    told = capsys.readouterr().out
    assert re.search(r"data    .*: \d+ conversations \(1 skipped as too long\) to train on\n", told)
    assert re.search(r"held out: \d+ conversations \(1 skipped as too long\)\n", told)
    assert "\nbefore\nuser: " in told
    rows = {line.split("  ")[0]: line.split()[-4:] for line in told.split("answers right\n")[1].splitlines()[1:]}
    assert list(rows) == ["train", "held out", "2", "4"]
    for before, after, right_before, right_after in rows.values():
        assert float(after) < 0.3 < float(before)
        assert float(right_before.rstrip("%")) < 50 < 90 <= float(right_after.rstrip("%"))
    model, chat = load_chat(tmp_path / "run")
    for word in WORDS:
        assert chat.parse(list(generate(model, chat.prompt(turns(word)), 9, temperature=0))) == (word[0], True)


@pytest.mark.slow
def test_it_can_be_a_foundation_itself(undisturbed, folder, tmp_path):
    """Its chat format stays, and its embedding is not grown again."""
    options = ["--data", folder / "data.jsonl", "--out", tmp_path / "run", "--steps", 1, *SMALL]
    assert teach(undisturbed("adapters"), *options) == 0
    run = ChatRun(tmp_path / "run")
    assert run.model_config.vocab_size == run.chat.vocab_size == 9
    best = min(ChatRun(undisturbed("adapters")).log.curve("validation")[1])
    assert run.log.curve("validation")[1][0] == pytest.approx(best, rel=1e-5)


# ---- it goes on


class Gone(BaseException):
    """The process ended here: nothing below catches it."""


@pytest.mark.parametrize(
    ("way", "stop"),
    first_of_each(
        [("all", 1), ("all", 3), ("adapters", 1), ("frozen", 3), ("packed", 3)], lambda place: "a way and a step"
    ),
)
def test_resumed_at_any_step_it_is_the_run_without_a_stop(way, stop, start, undisturbed, tmp_path, monkeypatch, capsys):
    """Bit for bit, from the weights that it began with (1) or from a later checkpoint (3)."""
    folder = tmp_path / "run"

    def gone(step):
        if step == stop:
            raise Gone

    with monkeypatch.context() as patch:
        after_update(patch, gone)
        with pytest.raises(Gone):
            start(folder, "--steps", 4, "--eval-every", 2, *WAYS[way])
    capsys.readouterr()
    assert teach("--resume", folder) == 0
    assert results(folder) == results(undisturbed(way))
    assert (folder / "samples.txt").read_bytes() == (undisturbed(way) / "samples.txt").read_bytes()
    assert "answers right" in capsys.readouterr().out


@pytest.mark.parametrize("packed", [False, True])
def test_threads_change_nothing(packed, folder):
    """Not a bit, though they have different numbers of learnt targets; shares of one size decide the order of sums."""
    states = []
    for threads in (1, 2, 4):
        model, chat = load_chat(folder / "base", dtype="float64")
        conversations, _ = load_conversations(folder / "data.jsonl", chat)
        stream = Conversations(conversations, chat, 6, 48, accumulate=2, packed=packed)
        trainer = Trainer(model, stream, TrainConfig(2, 6, accumulate=2, warmup=0), shares=4, threads=threads)
        with workers(threads):
            losses = [trainer.step(step) for step in range(2)]
        states.append((losses, trainer.state()["model"]))
    for losses, state in states[1:]:
        assert losses == states[0][0]
        assert all((x == states[0][1][name]).all() for name, x in state.items())


def test_other_data_are_refused(undisturbed, folder, tmp_path, capsys):
    """The file has changed since: the run would not be the one that was begun."""
    shutil.copytree(undisturbed("all"), tmp_path / "run")
    shutil.copy(folder / "data.jsonl", tmp_path)
    with editing(tmp_path / "run") as config:
        config["data"]["path"] = str(tmp_path / "data.jsonl")
    assert teach("--resume", tmp_path / "run", "--steps", 5) == 0
    with open(tmp_path / "data.jsonl", "a") as file:
        file.write("\n")
    assert teach("--resume", tmp_path / "run", "--steps", 6) == 2
    assert "data.jsonl is not the file that the run was trained on; its sha256 differs" in capsys.readouterr().err


def test_a_question_is_never_in_both_parts(folder):
    _, chat = load_chat(folder / "base")
    parts = load_conversations(folder / "data.jsonl", chat)
    train, held_out = ({json.dumps(c.messages[:-1]) for c in part} for part in parts)
    assert train
    assert held_out
    assert not train & held_out


def test_a_demonstration_may_be_wrong(folder):
    """The loss is of what is shown, the right answers are those of the verifier."""
    model, chat = load_chat(folder / "base")
    shown, _ = load_conversations(folder / "data.jsonl", chat)
    wrong = [c._replace(messages=[*c.messages[:-1], c.messages[-1] | {"content": "cccc"}]) for c in shown[:8]]
    stream = lambda conversations: Conversations(conversations, chat, 4, 48)
    marks = Examination(stream, wrong, wrong).marks(model)["train"]
    assert marks == [evaluate_conversations(model, stream(wrong)), exact_match(model, stream(shown[:8]))]
    as_grammar = [c._replace(verifier="grammar") for c in wrong]
    assert Examination(stream, as_grammar, wrong).marks(model)["train"][1] == exact_match(model, stream(wrong))


# ---- mistakes

FILES = {
    "few.jsonl": '{"prompt": "a", "completion": "b"}',
    "foreign.jsonl": '{"prompt": "a", "completion": "x"}\n{"text": "a"}',
    "long.jsonl": "\n".join(json.dumps({"prompt": word * 60, "completion": word}) for word in WORDS[3:]),
}
WRONG = [
    (["--lr", "1"], "MODEL is what to begin with, --data what to teach it; or --resume RUN continues a run"),
    (["base", "--data", "missing"], "missing: cannot be read: No such file"),
    (["base", "--data", "few.jsonl"], "few.jsonl: 1 with different questions are too few"),
    (
        ["base", "--data", "foreign.jsonl"],
        "foreign.jsonl: 2 wrong lines\n  line 1: char tokenizer: the vocabulary lacks",
    ),
    (["base", "--data", "long.jsonl"], "conversations fits into a context of 48 tokens"),
    (["base", "--data", "data.jsonl", "--freeze", "h.7.*"], "no parameter is named 'h.7.*'"),
    (["learned", "--data", "data.jsonl", "--packed"], "--packed is for models with rotary positions"),
    (["base", "--data", "data.jsonl", "--resume", "run"], "leave out --model"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_wrong_options(options, message, folder, tmp_path, monkeypatch, capsys):
    """Exit status 2, a message that says what was wrong, and nothing begun."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    shutil.copy(folder / "data.jsonl", tmp_path)
    make_base(tmp_path / "base", CharTokenizer(" abc"))
    make_base(tmp_path / "learned", CharTokenizer(" abc"), position="learned")
    assert teach(*options, "--out", "run") == 2
    told = capsys.readouterr()
    assert message in told.err
    assert not (tmp_path / "run").exists()
