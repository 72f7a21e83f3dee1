"""Training, evaluation and generation on an array type as strict as CuPy's: nothing leaves the device by accident."""

import numpy as np
import pytest
import strict_array as xp
from small_gpt import tiny

from tinygrad_lm import backend, kernels
from tinygrad_lm.adapt.recomputed import recomputed
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.trainer import Trainer

TOKENS = np.random.default_rng(0).integers(0, 7, 200).astype(np.int32)


@pytest.fixture(autouse=True)
def a_device(monkeypatch):
    """'cuda' is the strict array type, with definitions alone, so that both devices round alike."""
    monkeypatch.setattr(backend, "_cupy", lambda: xp)
    monkeypatch.setattr(kernels, "enable", lambda: None)  # which a Trainer calls
    with kernels.disabled():
        yield


def train(device, preset, dropout=0.0, document_token=None):
    config = TrainConfig(**RECIPES[preset] | {"steps": 3, "batch_size": 2, "accumulate": 2})
    model = GPT(tiny(preset, dropout=dropout), dtype=np.float64, device=device)
    batches = Batches(TOKENS, 2, 5)
    batches.document_token = document_token
    trainer = Trainer(model, batches, config)
    history = [trainer.step(step) for step in range(3)]
    return trainer, history, evaluate(model, TOKENS, 8, document_token), list(generate(model, [1], 12))


@pytest.mark.parametrize(("dropout", "document_token"), [(0.0, None), (0.3, None), (0.0, 3)])
@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ("gpt2-medium", "gpt2-large", "gpt2-xl")])
def test_training_there_is_training_here(preset, dropout, document_token):
    """To rounding: the gradient norm is not summed in the same order."""
    here, history, loss, text = train("cpu", preset, dropout, document_token)
    there, same_history, same_loss, same_text = train("cuda", preset, dropout, document_token)
    assert type(there.model.flat.data) is xp.ndarray
    np.testing.assert_allclose(same_history, history, rtol=1e-13)
    assert same_loss == pytest.approx(loss, rel=1e-13)
    assert same_text == text
    for group, arrays in here.state().items():
        for name, array in there.state()[group].items():
            assert isinstance(array, np.ndarray)
            np.testing.assert_allclose(array, arrays[name], rtol=1e-11, atol=1e-14, err_msg=name)


def test_a_state_moves_between_devices():
    here, there = train("cpu", "modern")[0], train("cuda", "modern")[0]
    there.model.flat.data[...] = 0.0
    there.load_state(here.state())
    assert np.array_equal(there.model.flat.data.get(), here.model.flat.data)
    np.testing.assert_allclose(there.step(0), here.step(0), rtol=1e-13)


def test_recomputation_on_a_device():
    model = GPT(tiny("modern"), device="cuda")
    recomputed(*model.h)
    logits = model(backend.to_device(TOKENS[:10].reshape(2, 5), "cuda"))
    logits.sum().backward()
    assert type(model.flat.grad) is xp.ndarray
