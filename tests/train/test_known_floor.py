"""A model trained on documents of known probability: it comes near the floor, and nothing goes below."""

from dataclasses import replace

import numpy as np

from tinygrad_lm import no_grad, ops
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.data.synthetic.kinds import SEPARATOR, Copy
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.evaluate import evaluate
from tinygrad_lm.train.trainer import Trainer

SOURCE = Copy("abcdefgh", length=6)
EOT, CHARACTERS = 0, {c: i for i, c in enumerate(SOURCE.alphabet + SEPARATOR, start=1)}
T = 48


class Packed(Batches):
    document_token = EOT


def row(text):
    return [EOT, *(CHARACTERS[c] for c in text)]


def test_a_small_model_learns_to_copy_and_does_not_fall_below_the_floor():
    documents = list(SOURCE.documents(300, seed=1))
    tokens, held_out = (np.concatenate([row(text) for text in texts])
                        for texts in (SOURCE.documents(10_000, seed=0), documents))  # fmt: skip
    floor = sum(map(SOURCE.nats, documents)) / len(held_out)
    config = TrainConfig(**RECIPES["modern"] | {"steps": 600, "batch_size": 16, "lr": 0.005, "muon_lr": 0.03})
    shape = {"vocab_size": 1 + len(CHARACTERS), "block_size": T, "n_layer": 2, "n_head": 2, "n_embd": 32}
    model = GPT(replace(PRESETS["modern"], **shape))
    trainer = Trainer(model, Packed(tokens, config.batch_size, T), config)
    with workers(1):
        for step in range(config.steps):
            trainer.step(step)
    assert floor < evaluate(model, held_out, 8, EOT) < 1.35 * floor  # windows begin within documents

    whole = [text for text in documents if len(text) < T]
    first, second, surplus = [], [], []
    for text in whole:
        x = np.array([[*row(text), EOT]])
        with no_grad():
            nats = -ops.log_softmax(model(x[:, :-1])).data[0, np.arange(len(text) + 1), x[0, 1:]]
        half = text.index(SEPARATOR) + 1
        first.append(nats[:half].sum())
        second += nats[half:].tolist()
        surplus.append(nats.sum() - SOURCE.nats(text))
    least = np.mean([SOURCE.nats(text) for text in whole])
    assert np.mean(second) < 0.1  # to guess costs 2.1
    assert 0.97 * least < np.mean(first) < 1.05 * least  # all that cannot be known is in the first half
    assert np.mean(surplus) > -4 * np.std(surplus) / len(surplus) ** 0.5
    assert len(whole) > 290
