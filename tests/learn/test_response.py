"""One answer token by token: each number of it against its own definition, computed another way."""

from dataclasses import replace

import numpy as np
import pytest
from small_policy import COUNTS, policy_run
from small_run import editing

from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.__main__ import main
from tinygrad_lm.learn.response.response import examine_response, token_gradients, visible
from tinygrad_lm.learn.response.response_text import response_text
from tinygrad_lm.nn.context import NONE
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data import prompts
from tinygrad_lm.posttrain.objectives import policy_gradient
from tinygrad_lm.train.objective import IGNORED

RAW = {"rloo": {"beta": 0.3}, "dr-grpo": {}, "grpo": {"beta": 0.3}, "ppo": {"beta": 0.3, "group": 1}}


def by_length(answers):
    """A reward that tells answers apart."""
    return np.array([len(text) + 0.25 * ended for text, ended in zip(answers.texts, answers.ended, strict=True)])


@pytest.fixture(scope="module", params=RAW)
def steps(request, tmp_path_factory):
    """The PolicySteps of a run of each method after two updates, whose answers have different rewards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "COUNTS", COUNTS)
        run = policy_run(tmp_path_factory.mktemp(request.param) / "run", method=request.param, **RAW[request.param])
        trainer, _ = run.reopen("cpu")
        trainer.load_state(run.read_checkpoint()[1])
    trainer.model.flat.data += 0.1 * np.random.default_rng(0).standard_normal(trainer.model.flat.data.shape)
    trainer.batches.judge = by_length
    return trainer.batches


def ids_of(steps, response):
    """The ids of the prompt, and of the chosen answer, by what is seen of its tokens."""
    names = {visible(steps.chat, i): i for i in range(steps.chat.vocab_size)}
    return steps.chat.prompt(response.messages).tolist(), [names[token.text] for token in response.tokens]


def logp_by_hand(model, before, answer):
    """log P of each token of an answer, from the logits of a text that ends before it."""
    found = []
    for i, token in enumerate(answer):
        with no_grad():
            z = model(np.array([[*before, *answer[:i]]])).numpy()[0, -1]
        found.append(z[token] - np.log(np.exp(z).sum()))
    return np.array(found)


def test_log_probabilities_and_what_follows_from_them(steps):
    response = examine_response(steps, 3)
    before, answer = ids_of(steps, response)
    now, reference = (logp_by_hand(model, before, answer) for model in (steps.model, steps.reference))
    get = lambda name: np.array([getattr(token, name) for token in response.tokens])
    np.testing.assert_allclose(get("logp"), now, atol=1e-12)
    np.testing.assert_allclose(get("drawn"), now, atol=1e-12)  # through the cache, as sampling computes it
    np.testing.assert_allclose(get("reference"), reference, atol=1e-12)
    np.testing.assert_allclose(get("k1"), now - reference, atol=1e-12)
    np.testing.assert_allclose(get("ratio"), 1, atol=1e-12)
    assert abs(get("k1")).max() > 1e-3
    chosen = response.answers[response.chosen]
    assert chosen.kl == pytest.approx((now - reference).sum())
    assert chosen.length == len(answer)
    assert chosen.text == steps.chat.parse(answer)[0]


def test_rewards_baselines_and_advantages(steps):
    """By the formulas of the methods' papers, written out."""
    response, method = examine_response(steps, 3), steps.method
    group = response.answers
    rewards = np.array([len(answer.text) + 0.25 * answer.ended for answer in group])
    assert [answer.reward for answer in group] == rewards.tolist()
    assert len(set(rewards)) > 1
    r, i = rewards - method.beta * np.array([answer.kl for answer in group]), response.chosen
    others = np.delete(r, i)
    tokens = response.tokens
    advantages = [token.advantage for token in tokens]
    if method.advantage == "gae":
        values = [token.value for token in tokens]
        assert group[i].baseline == values[0]
        R = [-method.beta * token.k1 for token in tokens]
        R[-1] += rewards[i]
        deltas = [R[t] + (values[t + 1] if t + 1 < len(R) else 0) - values[t] for t in range(len(R))]
        expected = [sum(0.95 ** (k - t) * deltas[k] for k in range(t, len(R))) for t in range(len(R))]
    elif method.advantage == "leave-one-out":
        assert group[i].baseline == pytest.approx(others.mean())
        expected = [r[i] - others.mean()] * len(tokens)
    elif method.advantage == "centred":
        assert group[i].baseline == pytest.approx(r.mean())
        expected = [(r[i] - r.mean()) / method.limit] * len(tokens)
    else:
        assert group[i].baseline == pytest.approx(r.mean())
        expected = [(r[i] - r.mean()) / r.std(ddof=1) / len(tokens)] * len(tokens)
    np.testing.assert_allclose(advantages, expected, rtol=1e-12)
    if method.advantage != "gae":
        assert group[i].advantage * {"sum": 1, "constant": 1 / method.limit, "own": 1 / len(tokens)}[
            method.length
        ] == pytest.approx(advantages[0])
    assert tokens[0].value is None or method.advantage == "gae"


def test_shares_are_those_of_gradients_by_differences(steps):
    """Each token's gradient, in random directions, by differences of its log-probability; and what is said of it."""
    response, model = examine_response(steps, 3), steps.model
    before, answer = ids_of(steps, response)
    tokens = np.array([[*before, *answer[:-1]]])
    targets = np.array([[IGNORED] * (len(before) - 1) + answer])
    spread = lambda name: np.array([[0.0] * (len(before) - 1) + [getattr(token, name) for token in response.tokens]])
    gradients = np.array([*token_gradients(model, (tokens, targets, spread("advantage"), spread("logp")), 0.0)])
    weights, h = model.flat.data.copy(), 1e-6
    for direction in np.random.default_rng(2).standard_normal((6, weights.size)):
        sides = []
        for step in (h, -h):
            model.flat.data[...] = weights + step * direction
            with no_grad():
                z = model(tokens).numpy()[0, len(before) - 1 :]
            sides.append(z[np.arange(len(answer)), answer] - np.log(np.exp(z).sum(-1)))
        model.flat.data[...] = weights
        expected = (sides[0] - sides[1]) / (2 * h) * [token.advantage for token in response.tokens]
        np.testing.assert_allclose(gradients @ direction, expected, rtol=1e-5, atol=1e-7)
    norms = np.linalg.norm(gradients, axis=1)
    np.testing.assert_allclose([token.norm for token in response.tokens], norms, rtol=1e-9)
    np.testing.assert_allclose([token.share for token in response.tokens], norms / norms.sum(), rtol=1e-9)
    assert sum(token.share for token in response.tokens) == pytest.approx(1)
    assert response.norm == pytest.approx(np.linalg.norm(gradients.sum(axis=0)), rel=1e-9)


@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_the_tokens_gradients_add_up_to_the_answers(clip, steps):
    """With ratios away from 1, too, of which some are clipped."""
    rng, model = np.random.default_rng(1), steps.model
    tokens = rng.integers(0, 10, (1, 9))
    targets = np.where(np.arange(9) > 3, rng.integers(0, 10, (1, 9)), IGNORED)
    with no_grad():
        logp = model.log_probability(tokens, targets).numpy()
    batch = tokens, targets, rng.standard_normal((1, 9)), logp + 0.4 * rng.standard_normal((1, 9))
    total = sum(token_gradients(model, batch, clip))
    assert not model.flat.grad.any()  # it leaves nothing behind
    policy_gradient(model, batch, NONE, clip=clip)[0].backward()
    expected = -model.flat.grad.copy()
    model.flat.zero_grad()
    np.testing.assert_allclose(total, expected, rtol=0, atol=1e-12 * abs(expected).max())


def test_a_group_without_signal_has_no_gradient(steps, monkeypatch):
    if steps.method.advantage == "gae":
        pytest.skip("a value head expects something")
    monkeypatch.setattr(steps, "judge", lambda answers: np.ones(len(answers.texts)))
    monkeypatch.setattr(steps, "method", replace(steps.method, beta=0.0))
    response = examine_response(steps, 0)
    assert [token.share for token in response.tokens] == [0.0] * len(response.tokens)
    assert "No token has a gradient" in response_text(response, "")


def test_the_same_prompt_and_answer_come_again(steps):
    one, other = examine_response(steps, 2, chosen=1), examine_response(steps, 2, chosen=1)
    assert one == other
    assert one.chosen == 1
    assert examine_response(steps, 4).messages != one.messages


def test_numbers_out_of_range(steps):
    with pytest.raises(ConfigError, match="--prompt must be from 0 to 11, found 12"):
        examine_response(steps, 12)
    with pytest.raises(ConfigError, match=r"--answer must be from 0 to \d, found -1"):
        examine_response(steps, 0, chosen=-1)


def test_the_command_prints_it_and_writes_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prompts, "COUNTS", COUNTS)
    run = policy_run(tmp_path / "run")
    assert main(["response", str(run.path), "--prompt", "3", "--answer", "2"]) == 0
    told = capsys.readouterr().out
    page = (run.path / "response.html").read_text()
    trainer, _ = run.reopen("cpu")
    trainer.load_state(run.read_checkpoint()[1])
    response = examine_response(trainer.batches, 3, 2)
    assert response_text(response, "sums, after 2 steps: prompt 3") in told
    assert "Answer 2, token by token" in page
    assert main(["response", str(run.path), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()


def test_only_a_policys_run_has_responses(tmp_path, capsys):
    run = policy_run(tmp_path / "run", steps=1)
    with editing(run.path) as config:
        del config["method"]
    assert main(["response", str(run.path)]) == 2
    assert "is not the run of a policy" in capsys.readouterr().err


def test_tokens_can_be_seen():
    chat = Chat(CharTokenizer("".join(sorted(" \n\ta\x07"))))
    seen = {text: visible(chat, chat.answer(text)[0]) for text in " \n\ta\x07"}
    assert seen == {" ": "␣", "\n": "↵", "\t": "⇥", "a": "a", "\x07": "\\u0007"}
    assert visible(chat, chat.end) == "⟨end⟩"
    assert visible(chat, chat.begin) == "<|begin|>"
