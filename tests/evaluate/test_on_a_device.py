"""Scoring and generation on an array type as strict as CuPy's: nothing leaves the device by accident."""

import pytest
import strict_array as xp
from small_evaluation import EndedTokenizer
from small_gpt import tiny

from tinygrad_lm import backend, kernels
from tinygrad_lm.evaluate import lambada, perplexity
from tinygrad_lm.evaluate.evaluator import Evaluator
from tinygrad_lm.models.gpt import GPT


@pytest.fixture(autouse=True)
def a_device(monkeypatch):
    """'cuda' is the strict array type, with definitions alone, so that both devices round alike."""
    monkeypatch.setattr(backend, "_cupy", lambda: xp)
    with kernels.disabled():
        yield


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_evaluation_there_is_evaluation_here_bit_for_bit(preset):
    results = []
    for device in ("cpu", "cuda"):
        model = GPT(tiny(preset, vocab_size=257, block_size=16), device=device)
        evaluator = Evaluator(model, EndedTokenizer(), batch_size=2, stride=5)
        results.append(
            [
                *perplexity.evaluate_perplexity(evaluator, "a cat and\na dog and a bee\n"),
                *lambada.evaluate_lambada(evaluator, [("the cat", " sat"), ("on", " mats and hats and more")]),
                evaluator.complete(["the cat", "a"], 5, [], "writing"),
            ]
        )
    assert type(model.flat.data) is xp.ndarray
    assert results[0] == results[1]
