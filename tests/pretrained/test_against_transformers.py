"""Published models beside transformers, the library that they are published with: the same numbers out of them."""

import json

import numpy as np
import pytest
from checks import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import differentiate

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")
transformers = pytest.importorskip("transformers", reason="transformers, the oracle of these tests, is not installed")
from pretrained.published import FAMILIES, in_double, models, ours, placed  # noqa: E402

families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lambda: tmp_path_factory.mktemp("model")


def their_logits(model, x):
    with torch.no_grad(), in_double():
        return model(torch.tensor(x)).logits.numpy()


@families
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_logits_loss_and_gradients(folder, family, data):
    theirs, tokens = data.draw(models(family))
    theirs.save_pretrained(path := folder())
    model, x, y = ours(path), tokens[:, :-1], tokens[:, 1:]
    agree(model(x).data, their_logits(theirs, x), "logits")

    loss, _ = differentiate(model, x, y)
    with in_double():
        logits = theirs(torch.tensor(x)).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten())
        expected.backward()
    agree(loss, expected.item(), "loss")
    found = placed(model, {name: p.grad for name, p in model.parameters.items()})
    wanted = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert found.keys() == wanted.keys()
    for name in wanted:
        agree(found[name], wanted[name], f"gradient of {name}", 1e-10)
