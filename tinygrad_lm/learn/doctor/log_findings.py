"""A finding of the training doctor, and the findings that need only the log and the tokens of a run."""

import math
from dataclasses import dataclass, field

import numpy as np

FINE, LOOK, WRONG = "fine", "look", "wrong"
MARKS = {FINE: "✓", LOOK: "?", WRONG: "✗"}


@dataclass
class Finding:
    """title: what was examined; value: what was measured; meaning, usual, advice: a sentence each.

    numbers: the measurement for doctor.json and for the picture.
    """

    title: str
    value: str
    verdict: str
    meaning: str
    usual: str
    advice: str
    numbers: dict = field(default_factory=dict)


def judge(look, wrong):
    """The verdict: wrong if `wrong`, else worth a look if `look`, else fine."""
    return WRONG if wrong else LOOK if look else FINE


def as_text(finding):
    """A finding as a paragraph."""
    lines = [f"{MARKS[finding.verdict]} {finding.title}: {finding.value} – {finding.verdict}", finding.meaning]
    lines += [f"usual: {finding.usual}", f"what to do: {finding.advice}" if finding.verdict != FINE else ""]
    return "\n    ".join(filter(None, lines)) + "\n"


def first_loss(log, vocab_size, pretrained=False):
    """Compare the loss before the first update with ln V, the loss of equal probabilities for all tokens."""
    steps, losses = log.curve("loss")
    expected = math.log(vocab_size)
    found = losses[0] if steps and steps[0] == 1 else math.nan
    off = found - expected
    value = f"{found:.3f} nats, ln V = {expected:.3f}"
    if pretrained:
        verdict, value = judge(off > 0, off > 1), value + " (it began with trained weights)"
    else:
        verdict = judge(not abs(off) <= 0.5, not abs(off) <= 1.5)
    return Finding(
        "loss at the start",
        value,
        verdict,
        "An untrained model should give every token about the same chance, which costs ln V nats.",
        "within a few tenths of ln V; exactly ln V where the head starts at zero (Karpathy 2019, 'A recipe for "
        "training neural networks': verify loss at init); lower if the weights were trained before",
        "Above: initial weights too large, or wrong targets. Below: the targets leak into the inputs, or the weights "
        "are not untrained.",
        {"found": found, "expected": expected},
    )


def spikes(log):
    """Jumps of the loss: more than 8 median deviations, and 0.5 nats, above the median of the 25 steps before."""
    losses = np.array(log.curve("loss")[1])
    found = []
    for i in range(10, len(losses)):
        window = losses[max(0, i - 25) : i]
        middle = np.median(window)
        if not losses[i] - middle <= max(0.5, 8 * np.median(abs(window - middle))):
            found.append(i)
    tail = max(1, len(losses) // 10)
    fall = float(losses[:tail].mean() - losses[-tail:].mean()) if len(losses) else math.nan
    short = len(losses) < 10
    return Finding(
        "learning rate, by the log",
        f"{len(found)} spikes in {len(losses):,} steps; the loss fell by {fall:.3f} nats",
        judge(short or found or fall < 0.05, not short and not (fall > 0 and len(found) <= len(losses) / 50)),
        "Too high a learning rate shows as a loss that jumps or rises, too low a one as a loss that hardly falls.",
        "no spike in a small run; about 20 in the whole training of PaLM 540B (Chowdhery et al. 2022, section 5.1)",
        "Lower the learning rate or warm up longer where it spikes; try three times the rate where it hardly falls.",
        {"spikes": found, "fall": fall},  # spikes: places in the curve
    )


def norm_curve(log, clip):
    """Measure how gradient norms grow over the run, and how many steps were clipped."""
    norms = np.array(log.curve("norm")[1])
    half = norms[len(norms) // 2 :]
    clipped = float((half > clip).mean()) if clip and len(half) else 0.0
    tail = max(1, len(norms) // 10)
    growth = float(np.median(norms[-tail:]) / max(np.median(half[: len(half) // 2 + 1]), 1e-30)) if len(norms) else 1.0
    return Finding(
        "gradient norm over the run",
        f"{growth:.2g} times its mid-run value at the end; {clipped:.0%} of the second half clipped at {clip:g}",
        judge(not growth < 4 or clipped > 0.9, not growth < 20),
        "A norm that keeps growing announces divergence; if nearly all steps are clipped, the clip is the learning "
        "rate.",
        "steady or falling slowly after warm-up; clipping at 1.0 is for the rare large one (Pascanu et al. 2013; "
        "Brown et al. 2020, appendix B)",
        "Growing: lower the learning rate. Always clipped: raise the clip, or take a larger batch.",
        {"growth": growth, "clipped": clipped, "clip": clip},
    )


def validation_curve(log):
    """Compare the validation loss with the training loss and with its own minimum."""
    steps, losses = log.curve("validation")
    training = log.curve("loss")[1]
    meaning = "How well the model does on new text; the gap to the training loss is what it knows by heart."
    usual = "falls, then settles; the best model is at the lowest point (Prechelt 1998, 'Early stopping – but when?')"
    if not losses or not training:
        advice = "Train until the first evaluation, or evaluate more often with --eval-every."
        return Finding("validation against training", "nothing measured yet", LOOK, meaning, usual, advice)
    recent = float(np.mean(training[-max(1, len(training) // 20) :]))
    last, lowest = losses[-1], min(losses)
    result = log.result()[0]  # on the whole validation texts, if they have been measured
    gap, risen = result - recent, last - lowest
    falling = len(losses) > 1 and last == lowest and losses[-2] - last > 0.01
    state = "overfitting" if risen > 0.05 else "still falling" if falling else "settled"
    advice = {
        "overfitting": f"Keep the checkpoint of step {steps[int(np.argmin(losses))]:,} (generate.py does); more text, "
        "dropout, a smaller model or fewer steps.",
        "still falling": "Train longer: it has not learned all it can.",
        "settled": "More steps help little: use a larger model or more text.",
    }[state]
    return Finding(
        "validation against training",
        f"{result:.3f} against {recent:.3f}, gap {gap:.3f}; lowest of the curve {lowest:.3f}: {state}",
        judge(risen > 0.05 or gap > 0.5, risen > 0.3 or not math.isfinite(last)),
        meaning,
        usual,
        advice,
        {"validation": result, "training": recent, "lowest": lowest, "state": state},
    )


def unused_tokens(tokens, vocab_size):
    """Count the rows of the token embedding that the training text never uses."""
    counts = np.bincount(tokens, minlength=vocab_size)
    unused = int((counts == 0).sum())
    ranks = np.unique(np.geomspace(1, vocab_size, 100).astype(int))
    return Finding(
        "tokens of the vocabulary in use",
        f"{vocab_size - unused:,} of {vocab_size:,}; {unused:,} never occur in {len(tokens):,} of the training text",
        judge(unused > 0.1 * vocab_size, False),
        "The embedding of a token that never occurs is never trained; it only costs memory and time.",
        "nearly all, if the vocabulary was made for the text; rare ones stay under-trained even in large models (Land "
        "and Bartolo 2024, 'Fishing for Magikarp')",
        "From scratch on a small text, take --tokenizer char; with a pretrained model, leave it as it is.",
        {"unused": unused, "ranks": ranks.tolist(), "counts": np.sort(counts)[::-1][ranks - 1].tolist()},
    )
