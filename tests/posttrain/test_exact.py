"""The world of a few tokens: what is in it, against counting by hand, and its gradients against differences."""

from itertools import product

import numpy as np
import pytest
from small_gpt import shaken, tiny
from tiny_world import FAMILIES, ODD, SCORE, WORLD, error, model_of

from tinygrad_lm import ops
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.exact import Table, World, kl
from tinygrad_lm.train.objective import IGNORED


def test_a_world_that_fits_on_a_page():
    """Ids 0, 1 and the end 2; a prompt of one token; two tokens at most."""
    world = World(3, (1,), end=2, limit=2)
    assert world.responses == [(2,), (0, 2), (1, 2), (0, 0), (0, 1), (1, 0), (1, 1)]
    assert world.tokens.tolist() == [[1, 2], [1, 0], [1, 1], [1, 0], [1, 0], [1, 1], [1, 1]]
    assert world.targets.tolist() == [[2, IGNORED], [0, 2], [1, 2], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert world.lengths.tolist() == [1, 2, 2, 2, 2, 2, 2]
    assert world.ended.tolist() == [True] * 3 + [False] * 4
    assert world.rewards(len).tolist() == [1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("end", [0, 1, 2, 3])
def test_the_responses_are_the_leaves_of_a_tree(end):
    """Any text of `limit` tokens begins with exactly one of them."""
    world = World(4, (0, 3), end, limit=3)
    for text in product(range(4), repeat=3):
        assert sum(text[: len(response)] == response for response in world.responses) == 1
    assert (world.mask.sum(1) == world.lengths).all()
    assert not world.mask[:, 0].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_one_response_at_a_time(family):
    model = model_of(family)
    found = WORLD.log_probability(model)
    assert np.exp(found.sum(1)).sum() == pytest.approx(1, abs=1e-14)
    for row, response in enumerate(WORLD.responses):
        text = [*WORLD.prompt, *response]
        with no_grad():
            predicted = ops.log_softmax(model(np.array([text[:-1]]))).numpy()[0, 1:]
        expected = predicted[np.arange(len(response)), response]
        assert found[row, 1 : 1 + len(response)] == pytest.approx(expected, abs=1e-13)
        assert not found[row, 1 + len(response) :].any()


def numerical(model, J, places, h=1e-5):
    """∂J/∂w of some weights by central differences."""
    slopes = []
    for place in places:
        before, values = model.flat.data[place], []
        for step in (h, -h):
            model.flat.data[place] = before + step
            values.append(J())
        model.flat.data[place] = before
        slopes.append((values[0] - values[1]) / (2 * h))
    return np.array(slopes)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_the_value_is_the_slope_and_the_score_function_agrees(family):
    model, other, beta = model_of(family), model_of(family, 1), 0.3
    reference = WORLD.log_probability(other).sum(1)

    def J():
        log_pi = WORLD.log_probability(model).sum(1)
        return np.exp(log_pi) @ SCORE - beta * kl(log_pi, reference)

    value, gradient = WORLD.value(model, SCORE, reference, beta)
    assert value == pytest.approx(J(), abs=1e-14)
    places = np.argsort(-abs(gradient))[::400]
    assert numerical(model, J, places) == pytest.approx(gradient[places], abs=1e-8)
    log_pi = WORLD.log_probability(model).sum(1)
    regularised = SCORE - beta * (log_pi - reference)
    assert error(WORLD.gradient(model, np.exp(log_pi) * regularised), gradient) < 1e-12


def test_a_model_in_single_precision_has_the_same_to_its_digits():
    model = shaken(tiny("gpt2", vocab_size=3), dtype=np.float32)
    value, gradient = WORLD.value(model, SCORE, WORLD.log_probability(model).sum(1), 0.3)
    log_pi = WORLD.log_probability(model).sum(1)
    assert gradient.dtype == log_pi.dtype == np.float32
    assert value == pytest.approx(np.exp(log_pi) @ SCORE, rel=1e-5)
    assert error(WORLD.gradient(model, np.exp(log_pi) * SCORE), gradient) < 1e-4


def test_expected_weights_are_the_mean_over_all_groups_one_by_one():
    """With weights that look at the whole group, and differ from token to token."""
    log_pi = WORLD.log_probability(model_of("gpt2")).sum(1)
    groups = WORLD.groups(2)
    n, S = WORLD.mask.shape
    assert sorted(map(tuple, groups.tolist())) == list(product(range(n), repeat=2))
    weights = (SCORE[groups] - SCORE[groups][:, ::-1] ** 2)[..., None] * (1.0 + np.arange(S))
    found = WORLD.expected_weights(log_pi, groups, weights)
    expected = np.zeros((n, S))
    for first, second in product(range(n), repeat=2):
        for mine, other in ((first, second), (second, first)):
            for s in range(S):
                if WORLD.mask[mine, s]:
                    chance = np.exp(log_pi[first] + log_pi[second])
                    expected[mine, s] += chance * (SCORE[mine] - SCORE[other] ** 2) * (1 + s)
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_can_be_any_policy(family):
    log_p = WORLD.log_probability(model_of(family))
    table = Table(WORLD).become(log_p.sum(1))
    assert WORLD.log_probability(table) == pytest.approx(log_p, abs=1e-14)
    value, gradient = WORLD.value(table, ODD)
    assert value == pytest.approx(np.exp(log_p.sum(1)) @ ODD, abs=1e-14)
    places = np.flatnonzero(gradient)
    assert len(places) == 7 * 3  # prefixes that a response can have
    J = lambda: np.exp(WORLD.log_probability(table).sum(1)) @ ODD
    assert numerical(table, J, places) == pytest.approx(gradient[places], abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((3, (), 2, 3), "prompt must be one or more ids below vocab_size = 3"),
        ((3, (1, 3), 2, 3), r"prompt must be .*, found \(1, 3\)"),
        ((3, (1,), 3, 3), "end must be an id below vocab_size = 3, found 3"),
        ((3, (1,), 2, 0), "limit must be at least 1, found 0"),
        ((50257, (1,), 2, 2), "50257 ids and 2 tokens make .* responses, more than 100000"),
    ],
)
def test_a_world_that_cannot_be_is_an_error(settings, message):
    with pytest.raises(ConfigError, match=message):
        World(*settings)
