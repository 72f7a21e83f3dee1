"""Train a quality classifier: python -m tinygrad_lm.data train-classifier --good FILES --bad FILES --out FILE

The engine applied to something other than a transformer: one weight per hashed word, learned by gradient descent.

    z = b + Σ wᵢ xᵢ,   loss = −mean log σ(±z)        + for a good text, − for a bad one

A tenth of the texts is held out; the printed figures are about these.
"""

from itertools import islice
from pathlib import Path

import numpy as np

from tinygrad_lm import ops
from tinygrad_lm.backend import random
from tinygrad_lm.curate.cleaning.classifier import ALPHA, FEATURES, Classifier, features
from tinygrad_lm.curate.cleaning.duplicates import signature
from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.readers.formats import add_options, options_of, read_texts
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.nn.module import Module, Parameter
from tinygrad_lm.optim.adamw import AdamW
from tinygrad_lm.optim.schedule import warmup_cosine
from tinygrad_lm.programs import progress_bar

HELD_OUT = 10  # one text in so many
BATCH = 64  # texts, half of them good
LEARNING_RATE = 0.1  # large, because the values are small and the weights must grow
WEIGHT_DECAY = 0.1  # so that words of a single text do not decide


class Logistic(Module):
    """z = b + Σ wᵢ xᵢ of B texts. ids, values: (B, N), the features of each text, padded with zeros"""

    def __init__(self):
        self.weight = Parameter(FEATURES, 1)  # a matrix, because AdamW decays matrices
        self.bias = Parameter(1)

    def forward(self, ids, values):
        w = ops.embedding(self.weight, ids)  # (B, N, 1)
        return (w * values[:, :, None]).sum(axis=1) + self.bias  # (B, 1)


def logistic_loss(z, good):
    """−mean log σ(±z) as a cross-entropy: softmax of (0, z) is (1 − σ(z), σ(z)). z: (B, 1), good: integers (B,)."""
    logits = ops.concat(Tensor(np.zeros(z.shape, z.dtype)), z, axis=1)
    return ops.cross_entropy(logits, good)


def fit_logistic(good, bad, steps, seed=0, report=lambda step, loss: None):
    """Train a Logistic. good, bad: lists of what `features` returns. The same arguments give the same weights."""
    model = Logistic().initialize(seed)
    optimizer = AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    half = BATCH // 2
    labels = np.repeat([1, 0], half)
    for step in range(steps):
        rows = [good[i] for i in draw_texts(len(good), half, seed, "good", step)]
        rows += [bad[i] for i in draw_texts(len(bad), half, seed, "bad", step)]
        error = logistic_loss(model(*pad_features(rows)), labels)
        error.backward()
        optimizer.step(warmup_cosine(step, steps, floor=0.0))
        optimizer.zero_grad()
        report(step, float(error.data))
    return model


def draw_texts(n, count, seed, name, step):
    """The indices of a step's `count` texts among n: a new permutation in each epoch, none left out."""
    places = range(step * count, (step + 1) * count)
    orders = {epoch: random(seed, f"classifier/{name}", epoch).permutation(n) for epoch in {p // n for p in places}}
    return [orders[p // n][p % n] for p in places]


def pad_features(rows):
    """(ids, values) of some texts as arrays (B, N), N the largest number of features."""
    shape = len(rows), max(len(ids) for ids, _ in rows)
    all_ids, all_values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for i, (ids, values) in enumerate(rows):
        all_ids[i, : len(ids)], all_values[i, : len(ids)] = ids, values
    return all_ids, all_values


def measure_scores(good, bad):
    """{name: figure} from the scores of held-out texts, as if good and bad ones were equally frequent.

    A text counts as good above a score of 0.5. "kept" is the mean probability of Classifier.keeps.
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
    """A histogram of the scores of held-out texts, and the share that Pareto's rule keeps of each bin."""
    lines = ["score       good     bad    kept"]
    for i in range(10):
        shares = [np.mean([int(min(score * 10, 9)) == i for score in scores]) for scores in (good, bad)]
        kept = (2 - (i + 0.5) / 10) ** -ALPHA
        lines.append(f"{i / 10:.1f} – {(i + 1) / 10:.1f} {shares[0]:7.1%} {shares[1]:7.1%} {kept:7.1%}")
    return "\n".join(lines)


def read_features(patterns, most, what, **options):
    """The features of the first `most` texts of some files (`read_texts`): (for training, held out); a hash decides."""
    learned, held_out = [], []
    for text in islice(filter(None, map(normalise, read_texts(patterns, **options))), most):
        out = int.from_bytes(signature("exact", text)) % HELD_OUT == 0  # so that copies are on one side
        (held_out if out else learned).append(features(text))
    if not learned or not held_out:
        raise DataError(
            f"{what} texts: expected some for training and one in {HELD_OUT} held out, found {len(learned)} and "
            f"{len(held_out)}; provide more"
        )
    return learned, held_out


def add_arguments(parser):
    parser.add_argument("--good", nargs="+", required=True, metavar="FILE", help="good texts")
    parser.add_argument("--bad", nargs="+", required=True, metavar="FILE", help="unfiltered texts, such as a raw crawl")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write (.safetensors)")
    parser.add_argument(
        "--documents", type=int, default=50_000, metavar="N", help="the most texts of either kind [50,000]"
    )
    parser.add_argument("--steps", type=int, default=2000, metavar="N", help="batches of 64 texts [2,000]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="[0]")
    add_options(parser)
    parser.set_defaults(function=train_classifier_command)


def train_classifier_command(args):
    """Train and save a classifier, and print how it scores held-out texts. Returns the exit status."""
    if args.documents < 1 or args.steps < 1:
        raise ConfigError(f"expected at least one document and one step, found {args.documents} and {args.steps}")
    if not Path(args.out).resolve().parent.is_dir():
        raise ConfigError(f"classifier: the folder of {args.out} does not exist; create it, or choose another")
    if Path(args.out).exists():
        raise ConfigError(f"classifier {args.out} exists; choose another name, or remove it first")
    options = options_of(args, [*args.good, *args.bad])
    good, good_held_out = read_features(args.good, args.documents, "good", **options)
    bad, bad_held_out = read_features(args.bad, args.documents, "bad", **options)
    model = fit_logistic(good, bad, args.steps, args.seed, progress_reporter(args.steps))
    settings = {"good": len(good), "bad": len(bad), "steps": args.steps, "seed": args.seed}
    classifier = Classifier(model.weight.data[:, 0], model.bias.data[0], settings)
    scores = [[classifier.probability(*row) for row in rows] for rows in (good_held_out, bad_held_out)]
    classifier.settings |= measure_scores(*scores)
    classifier.save(args.out)
    print(score_table(*scores))
    for name, value in measure_scores(*scores).items():
        print(f"{name:13} {value:.3f}")
    print(f"{Path(args.out)}: trained on {len(good):,} good and {len(bad):,} bad texts")
    return 0


def progress_reporter(steps):
    """A function that shows training progress, on a terminal only."""
    bar = progress_bar(total=steps, unit="step")

    def report(step, loss):
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update()
        if step + 1 == steps:
            bar.close()

    return report
