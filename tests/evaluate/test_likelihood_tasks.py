"""Perplexity, LAMBADA, multiple choice and HumanEval's likelihood: their arithmetic, beside PyTorch's and by hand."""

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_evaluation import EndedTokenizer, Told, byte_gpt, ended, fond_of, json_file, uniform, values

from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.evaluate import choices, humaneval, lambada, perplexity
from tinygrad_lm.evaluate.choices import Question
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.evaluate.report import exponential, mean
from tinygrad_lm.testing.checks import agree

TEXT = "Ein Bär\nbrummt im Wald . \n\n= Heading =\nand a bee hums\n"
encode = EndedTokenizer().encode


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")


def torch_losses(model, context, completion):
    """−log P of each token of the completion, and whether it is the likeliest, from PyTorch."""
    import torch
    import torch_gpt

    p = {name: torch.tensor(value.data) for name, value in model.flat.items()}
    sequence = torch.tensor(np.concatenate([context, completion]).astype(np.int64))
    logits = torch_gpt.logits(model.config, p, sequence[None, :-1])[0, -len(completion) :]
    targets = sequence[-len(completion) :]
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return losses.numpy(), (logits.argmax(-1) == targets).numpy()


# ---- statistics


@given(hits=st.lists(st.booleans(), min_size=2, max_size=30))
def test_the_error_of_a_proportion(hits):
    p, n = sum(hits) / len(hits), len(hits)
    result = mean("acc", hits)
    agree([result.value, result.error], [p, math.sqrt(p * (1 - p) / (n - 1))], "mean and error")
    assert result.n == n
    assert mean("acc", hits, 100).error == pytest.approx(100 * result.error)


def test_the_error_of_a_perplexity_is_its_slope_times_that_of_the_loss():
    result = mean("nats", [1.0, 2.0, 4.0])
    found = exponential("perplexity", result)
    h = 1e-6
    slope = (math.exp(result.value + h) - math.exp(result.value - h)) / (2 * h)
    agree([found.value, found.error], [math.exp(7 / 3), slope * result.error], "perplexity", 1e-8)
    assert exponential("perplexity", mean("nats", [1000.0])).value == math.inf
    assert mean("nats", [1.0]).error is None
    assert exponential("perplexity", mean("nats", [1.0])).error is None


# ---- a text


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    n_bytes, words = len(TEXT.encode()), 13 + 5
    found = perplexity.evaluate_perplexity(ended(uniform(257, 7), stride=3), TEXT)
    assert [result.n for result in found] == [n_bytes] * 4
    assert all(result.error <= 1e-12 * result.value for result in found)
    assert values(found) == pytest.approx(
        {
            "nats_per_token": math.log(257),
            "perplexity": 257,
            "word_perplexity": 257 ** (n_bytes / words),
            "bits_per_byte": math.log2(257),
        },
        rel=1e-12,
    )


def test_words_and_line_ends_are_counted():
    assert len(TEXT.split()) == 13
    assert TEXT.count("\n") == 5


@settings(max_examples=20)
@given(seed=st.integers(0, 99), stride=st.integers(60, 64))
def test_a_text_that_fits_is_pytorch_s_loss(torch, seed, stride):
    model = byte_gpt(64, seed)
    losses, _ = torch_losses(model, [256], encode(TEXT))
    found = perplexity.evaluate_perplexity(ended(model, stride=stride), TEXT)
    nats, n = losses.mean(), len(losses)
    error = losses.std(ddof=1) / math.sqrt(n)
    bits = [losses.sum() / math.log(2) / n, error / math.log(2)]
    words = [math.exp(losses.sum() / 18), math.exp(losses.sum() / 18) * error * n / 18]
    for result, expected in zip(found, [[nats, error], [math.exp(nats)] * 2, words, bits], strict=True):
        expected[1] *= error if result.metric == "perplexity" else 1
        agree([result.value / expected[0], result.error / expected[1]], [1, 1], result.metric)


def test_without_an_end_of_text_token_the_first_token_is_given(torch):
    model = byte_gpt(64)
    losses, _ = torch_losses(model, encode(TEXT)[:1], encode(TEXT)[1:])
    nats, *_ = perplexity.evaluate_perplexity(Evaluator(model, ByteTokenizer()), TEXT)
    agree(nats.value, losses.mean(), "nats")
    with pytest.raises(DataError, match="no token to score"):
        perplexity.evaluate_perplexity(Evaluator(model, ByteTokenizer()), "a")


def test_the_limit_of_a_text_counts_lines():
    found = perplexity.evaluate_perplexity(ended(uniform(), limit=2), TEXT)
    assert found[0].n == len("Ein Bär\nbrummt im Wald . \n".encode())


@pytest.mark.parametrize("within", ["\f", "\v", "\r", "\x1c", "\x85", "\u2028"])
def test_only_a_line_feed_ends_a_line(within):
    """With another end the first line might have no word."""
    first = f"{within}one{within}two\r\n"
    found = values(perplexity.evaluate_perplexity(ended(uniform(), limit=1), first + "three\n"))
    assert found == values(perplexity.evaluate_perplexity(ended(uniform()), first))


def test_a_text_of_nothing_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="only white space"):
        perplexity.read_running_text(tmp_path / "text.txt")


# ---- LAMBADA

PASSAGES = ["He took the dog for a walk", '"Not again ," said Ann\n', "one\ttwo", "a " * 40 + "long way  "]
PARTS = [
    ("He took the dog for a", " walk"),
    ('"Not again ," said', " Ann"),
    ("one", "\ttwo"),
    ("a " * 39 + "a long", " way"),
]


@pytest.mark.parametrize("name", ["lambada_test.jsonl", "lambada_test.jsonl.gz", "plain.txt"])
def test_the_last_word_is_cut_off_with_its_space(name, tmp_path):
    path = tmp_path / name
    if "jsonl" in name:
        content = "".join(json.dumps({"text": text}) + "\n" for text in PASSAGES).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    else:
        path.write_text("".join(text.strip("\n") + "\n" for text in PASSAGES), newline="")
    assert [tuple(pair) for pair in lambada.read_lambada(path)] == PARTS


def test_a_passage_may_have_lines():
    assert lambada.split_last_word("One day\nhe said\n") == ("One day\nhe", " said")


@settings(max_examples=20)
@given(seed=st.integers(0, 99), limit=st.sampled_from([None, 1, 3]))
def test_lambada_is_what_pytorch_says(torch, seed, limit):
    model, parts = byte_gpt(64, seed), PARTS[:3]
    found = lambada.evaluate_lambada(ended(model, batch_size=2, limit=limit), parts)
    losses = [torch_losses(model, encode(context), encode(word)) for context, word in parts][:limit]
    expected = {
        "acc": np.mean([greedy.all() for _, greedy in losses]),
        "perplexity": np.exp(np.mean([nats.sum() for nats, _ in losses])),
        "last_token_acc": np.mean([greedy[-1] for _, greedy in losses]),
    }
    assert values(found) == pytest.approx(expected, rel=1e-12)
    assert {result.n for result in found} == {len(losses)}


def test_a_hit_has_all_its_tokens_right():
    """A model that says "abab…" after every a and b."""
    follow = {ord(" "): ord("a"), ord("a"): ord("b"), ord("b"): ord("a")}
    model = Told(lambda tokens: 50.0 * (np.arange(257) == np.vectorize(lambda t: follow.get(t, 32))(tokens)[..., None]))
    found = lambada.evaluate_lambada(ended(model), [("x", " ab"), ("x", " ba"), ("x", " aba"), ("x", " abc")])
    assert values(found)["acc"] == 0.5
    assert values(found)["last_token_acc"] == 0.75
    assert found[0].error == pytest.approx(math.sqrt(0.25 / 3))
    # Where it is wrong, it is sure of another token: 50 nats each; " ba" is wrong once, " abc" once.
    assert values(found)["perplexity"] == pytest.approx(math.exp(100 / 4))


# ---- multiple choice

ROOF = {
    "ind": 24,
    "activity_label": "Roof work",
    "ctx_a": "A man sits on a roof.",
    "ctx_b": "he",
    "ctx": "A man sits on a roof. he",
    "split": "val",
    "split_type": "indomain",
    "label": 3,
    "endings": ["eats.", "rips tiles off.", "holds a cube.", "starts pulling up roofing at last."],
    "source_id": "x~1",
}


@settings(max_examples=20)
@given(seed=st.integers(0, 99), batch_size=st.integers(1, 9))
def test_choices_are_what_pytorch_says(torch, seed, batch_size):
    model, rng = byte_gpt(64, seed), np.random.default_rng(seed)
    word = lambda: " " + "".join(rng.choice(list("abcé"), rng.integers(1, 6)))
    different = lambda: sorted({word() for _ in range(20)})[:4]  # of equals, rounding would choose
    questions = [Question("What" + word(), different(), int(rng.integers(4))) for _ in range(5)]
    hits = []
    for question in questions:
        sums = [torch_losses(model, encode(question.context), encode(choice))[0].sum() for choice in question.choices]
        per_token = [nats / len(encode(choice)) for nats, choice in zip(sums, question.choices, strict=True)]
        per_char = [nats / (len(choice) - 1) for nats, choice in zip(sums, question.choices, strict=True)]
        hits.append([int(np.argmin(x)) == question.answer for x in (sums, per_token, per_char)])
    found = choices.evaluate_choices(ended(model, batch_size=batch_size), questions)
    expected = dict(zip(["acc", "acc_norm", "acc_norm_char"], np.mean(hits, 0), strict=True))
    assert values(found) == pytest.approx(expected)


def test_the_three_norms_choose_what_they_should():
    """Tokens are e⁻¹, e⁻³ and e⁻⁴ likely: the sum prefers short choices; é is one character but two tokens."""
    nats = np.full(257, 90.0)
    nats[[ord(" "), ord("a"), ord("b"), *"é".encode()]] = [1, 1, 3, 2, 2]
    model = Told(lambda tokens: np.broadcast_to(-nats, (*tokens.shape, 257)))
    question = lambda answer: Question("x", [" b", " aaaaaa", " é"], answer)
    # nats: 1 + 3, 1 + 6, 1 + 4;  a token: 4/2, 7/7, 5/3;  a character: 4/1, 7/6, 5/1
    assert [values(choices.evaluate_choices(ended(model), [question(i)]))["acc"] for i in range(3)] == [1, 0, 0]
    assert [values(choices.evaluate_choices(ended(model), [question(i)]))["acc_norm"] for i in range(3)] == [0, 1, 0]
    assert [values(choices.evaluate_choices(ended(model), [question(i)]))["acc_norm_char"] for i in range(3)] == [
        0,
        1,
        0,
    ]
    # a token: 1, 9/5;  a character: 7/6, 9/2 against é é's 1 + 8 nats, 5 tokens, 2 characters
    pair = [" bbb", " éé"]  # 10 and 9 nats; 10/4 and 9/5 a token; 10/3 and 9/2 a character
    found = values(choices.evaluate_choices(ended(model), [Question("x", pair, 1)]))
    assert found == {"acc": 1, "acc_norm": 1, "acc_norm_char": 0}


def test_hellaswag_s_accuracy_on_a_model_that_knows():
    right, wrong = choices.hellaswag(ROOF), choices.hellaswag(ROOF | {"label": 0})
    model = fond_of("startspulling up roofing at last.")  # no ending has likelier letters than the right one
    assert values(choices.evaluate_choices(ended(model), [right, right, wrong, right]))["acc_norm"] == 0.75


def test_hellaswag_is_asked_in_two_ways(tmp_path):
    path = json_file(tmp_path / "hellaswag_val.jsonl", ROOF)
    (plain,) = choices.read_hellaswag(path)
    assert plain.context == ROOF["ctx"]
    assert plain.choices == [f" {ending}" for ending in ROOF["endings"]]
    assert plain.answer == 3
    marked = {"activity_label": "Fix [title] it", "endings": ["[step] rests [substeps] a while", *ROOF["endings"][1:]]}
    harness, other = choices.read_hellaswag_harness(json_file(path, ROOF, ROOF | marked))
    assert harness.context == "Roof work: A man sits on a roof. He"
    assert harness.choices[3] == " starts pulling up roofing at last."
    assert other.context == "Fix. it: A man sits on a roof. He"
    assert other.choices[0] == "  rests a while"


def test_arc_s_labels_may_be_letters_or_numbers(tmp_path):
    def record(labels, key):
        listed = [{"text": f"thing {label}", "label": label} for label in labels]
        return {"id": "1", "question": {"stem": "Which?", "choices": listed}, "answerKey": key}

    found = choices.read_arc(json_file(tmp_path / "arc.jsonl", record("ABCDE", "C"), record("123", "1")))
    assert [question.answer for question in found] == [2, 0]
    assert found[0].context == "Question: Which?\nAnswer:"
    assert found[1].choices == [" thing 1", " thing 2", " thing 3"]


def test_piqa_s_labels_have_a_file_of_their_own(tmp_path):
    goal = {"goal": "Boil an egg.", "sol1": "Fry it", "sol2": "Heat water"}
    path = json_file(tmp_path / "valid.jsonl", goal, goal)
    (tmp_path / "valid-labels.lst").write_text("1\n0\n")
    found = choices.read_piqa(path, tmp_path / "valid-labels.lst")
    assert found[0] == Question("Question: Boil an egg.\nAnswer:", [" Fry it", " Heat water"], 1)
    assert found[1].answer == 0


@pytest.fixture
def mmlu(tmp_path):
    for folder, rows in {
        "test": '"What, then?",1,2,3,4,B\n"Two\nlines",5,6,7,8,D\n',
        "dev": "First?,a,b,c,d,A\nSecond?,e,f,g,h,C\n",
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"high_school_x_{folder}.csv").write_text(rows)
    return tmp_path


def test_mmlu_s_prompt_has_solved_examples_in_front(mmlu):
    first, second = choices.read_mmlu(mmlu / "test", mmlu / "dev")
    header = "The following are multiple choice questions (with answers) about high school x.\n\n"
    asked = "What, then?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    solved = "First?\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\n"
    assert first.prompt(0) == header + asked
    assert first.prompt(1) == header + solved + asked
    assert first.prompt(2) == header + solved + "Second?\nA. e\nB. f\nC. g\nD. h\nAnswer: C\n\n" + asked
    assert (first.choices, first.answer) == ([" A", " B", " C", " D"], 1)
    assert (second.context, second.answer) == ("Two\nlines\nA. 5\nB. 6\nC. 7\nD. 8\nAnswer:", 3)
    with pytest.raises(ConfigError, match="shots must be at most 2, the number of solved examples, found 3"):
        first.prompt(3)
    model = fond_of("ACDB")
    assert values(choices.evaluate_choices(ended(model, shots=2), [first, second]))["acc"] == 0.5


def test_few_shots_reach_the_model(mmlu):
    model = fond_of("B")
    choices.evaluate_choices(ended(model, shots=1), choices.read_mmlu(mmlu / "test", mmlu / "dev")[:1])
    prompt = "The following are multiple choice questions (with answers) about high school x.\n\n"
    prompt += "First?\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\nWhat, then?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    assert model.shapes == [(4, len(prompt) + 1)]


# ---- HumanEval


def test_humaneval_is_nats_a_token_of_the_solution(torch, tmp_path):
    problem = {"task_id": "HumanEval/0", "prompt": "def f(x):\n", "canonical_solution": "    return x\n", "test": ""}
    other = problem | {"task_id": "HumanEval/1", "canonical_solution": "    pass\n"}
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in (problem, other)).encode()))
    model = byte_gpt(64)
    found = humaneval.evaluate_humaneval(ended(model), humaneval.read_humaneval(path))
    losses = [
        torch_losses(model, encode("def f(x):"), encode("\n" + r["canonical_solution"]))[0] for r in (problem, other)
    ]
    expected = np.concatenate(losses).mean()
    assert values(found) == pytest.approx({"nats_per_token": expected, "perplexity": math.exp(expected)}, rel=1e-12)
    assert found[0].n == sum(map(len, losses))
