"""Train a quality classifier: python -m tinygrad_lm.data train-classifier --good FILES --bad FILES --out FILE

The engine at something that is no transformer: a row of weights, one for each hashed word, learned by gradient descent.

    z = b + Σ wᵢ xᵢ,   loss = −mean log σ(±z)        + for a good text, − for a bad one

A tenth of the texts is held out, and what is printed is about them.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.backend import random
from tinygrad_lm.curate.cleaning.classifier import ALPHA, FEATURES, Classifier, features
from tinygrad_lm.curate.cleaning.duplicates import signature
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.readers.formats import read_texts
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.schedule import warmup_cosine

HELD_OUT = 10  # one text in so many
BATCH = 64  # texts, half of them good
LEARNING_RATE = 0.1  # the values are small, so weights have far to go
WEIGHT_DECAY = 0.1  # a word that one text alone has shall not decide


class Logistic(Module):
    """z = b + Σ wᵢ xᵢ of B texts. ids: (B, N) which features a text has, values: (B, N); what is missing to N is 0."""

    def __init__(self):
        self.weight = Parameter(FEATURES, 1)  # a matrix, as an embedding of one channel is: AdamW decays matrices
        self.bias = Parameter(1)

    def __call__(self, ids, values):
        w = ops.embedding(self.weight, ids)  # (B, N, 1)
        return (w * values[:, :, None]).sum(axis=1) + self.bias  # (B, 1)


def logistic_loss(z, good):
    """−mean log σ(±z) as a cross-entropy: softmax of (0, z) is (1 − σ(z), σ(z)). z: (B, 1), good: integers (B,)."""
    logits = ops.concat(Tensor(np.zeros(z.shape, z.dtype)), z, axis=1)
    return ops.cross_entropy(logits, good)


def fit_logistic(good, bad, steps, seed=0, report=lambda step, loss: None):
    """The trained Logistic. good, bad: lists of what `features` returns. The same arguments give the same weights."""
    model = Logistic().initialize(seed)
    optimizer = AdamW(model.parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    half = BATCH // 2
    labels = np.repeat([1, 0], half)
    for step in range(steps):
        rows = [good[i] for i in draw_texts(len(good), half, seed, "good", step)]
        rows += [bad[i] for i in draw_texts(len(bad), half, seed, "bad", step)]
        error = logistic_loss(model(*pad_features(rows)), labels)
        error.backward()
        optimizer.step(warmup_cosine(step, steps, floor=0.0))
        model.parameters.zero_grad()
        report(step, float(error.data))
    return model


def draw_texts(n, count, seed, name, step):
    """Which of n texts are the `count` of a step: a new order in each pass over them, none left out."""
    places = range(step * count, (step + 1) * count)
    orders = {epoch: random(seed, f"classifier/{name}", epoch).permutation(n) for epoch in {p // n for p in places}}
    return [orders[p // n][p % n] for p in places]


def pad_features(rows):
    """(ids, values) of some texts, as arrays (B, N) with N the most features that one of them has."""
    shape = len(rows), max(len(ids) for ids, _ in rows)
    all_ids, all_values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for i, (ids, values) in enumerate(rows):
        all_ids[i, : len(ids)], all_values[i, : len(ids)] = ids, values
    return all_ids, all_values


def measure_scores(good, bad):
    """{what: how much} from the scores of held-out texts, as if good and bad ones were equally many.

    A text is taken for good above a score of 0.5. What is kept is the mean chance that Classifier.keeps gives a text.
    """
    good, bad = np.array(good), np.array(bad)
    recall, false = np.mean(good > 0.5), np.mean(bad > 0.5)
    facts = {
        "accuracy": (recall + 1 - false) / 2,
        "precision": recall / (recall + false) if recall else 0.0,
        "recall": recall,
        "kept of good": ((2 - good) ** -ALPHA).mean(),
        "kept of bad": ((2 - bad) ** -ALPHA).mean(),
    }
    return {name: float(value) for name, value in facts.items()}


def score_table(good, bad):
    """How the scores of held-out texts are spread, and what part of each tenth Pareto's rule keeps."""
    lines = ["score       good     bad    kept"]
    for i in range(10):
        shares = [np.mean([int(min(score * 10, 9)) == i for score in scores]) for scores in (good, bad)]
        kept = (2 - (i + 0.5) / 10) ** -ALPHA
        lines.append(f"{i / 10:.1f} – {(i + 1) / 10:.1f} {shares[0]:7.1%} {shares[1]:7.1%} {kept:7.1%}")
    return "\n".join(lines)


def read_features(patterns, most, what):
    """The features of the first `most` texts of some files: (to learn from, held out). Which is which, hashes say."""
    learned, held_out = [], []
    for text in islice(filter(None, map(normalise, read_texts(patterns))), most):
        out = int.from_bytes(signature("exact", text)) % HELD_OUT == 0  # so copies are on one side
        (held_out if out else learned).append(features(text))
    if not learned or not held_out:
        raise DataError(
            f"{what} texts: expected some to learn from and one in {HELD_OUT} to hold out, found {len(learned)} and "
            f"{len(held_out)}; give more"
        )
    return learned, held_out


def add_arguments(parser):
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--good", nargs="+", required=True, metavar="FILE", help="texts such as are wanted")
    parser.add_argument("--bad", nargs="+", required=True, metavar="FILE", help="texts as they come, the raw crawl")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the classifier goes (.safetensors)")
    parser.add_argument("--documents", type=int, default=50_000, metavar="N", help="the most of either kind [50,000]")
    parser.add_argument("--steps", type=int, default=2000, metavar="N", help="batches of 64 texts [2,000]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="[0]")


def train_classifier_command(args):
    if args.documents < 1 or args.steps < 1:
        raise ConfigError(f"expected at least one document and one step, found {args.documents} and {args.steps}")
    if not Path(args.out).resolve().parent.is_dir():
        raise ConfigError(f"classifier: {args.out} is in a folder that does not exist; make it, or choose another")
    if Path(args.out).exists():
        raise ConfigError(f"classifier {args.out} exists; give another name, or remove it first")
    good, good_held_out = read_features(args.good, args.documents, "good")
    bad, bad_held_out = read_features(args.bad, args.documents, "bad")
    model = fit_logistic(good, bad, args.steps, args.seed, progress_reporter(args.steps))
    settings = {"good": len(good), "bad": len(bad), "steps": args.steps, "seed": args.seed}
    classifier = Classifier(model.weight.data[:, 0], model.bias.data[0], settings)
    scores = [[classifier.probability(*row) for row in rows] for rows in (good_held_out, bad_held_out)]
    classifier.settings |= measure_scores(*scores)
    classifier.save(args.out)
    print(score_table(*scores))
    for name, value in measure_scores(*scores).items():
        print(f"{name:13} {value:.3f}")
    print(f"{Path(args.out)}: learned from {len(good):,} good and {len(bad):,} bad texts")
    return 0


def progress_reporter(steps):
    """A function that shows how far training is, on a terminal."""
    from tqdm import tqdm

    bar = tqdm(total=steps, unit="step", dynamic_ncols=True, disable=None)

    def report(step, loss):
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update()
        if step + 1 == steps:
            bar.close()

    return report
