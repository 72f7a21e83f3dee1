"""The training doctor's findings from the model itself: its activations, attention, gradients and updates.

B batch, T time, H heads, G key heads, S keys, V vocabulary.
"""

import inspect
import math
import time

import numpy as np

from tinygrad_lm.backend import to_device, wide
from tinygrad_lm.data.loader import Batches
from tinygrad_lm.engine.observe import Observer, current_module, no_grad, observing
from tinygrad_lm.errors import DivergedError
from tinygrad_lm.learn.doctor.log_findings import Finding, judge
from tinygrad_lm.nn.layers import Dropout
from tinygrad_lm.nn.mlp import ACTIVATIONS
from tinygrad_lm.ops import attention
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.trainer import Trainer


def overfit(model, tokens, steps=200, seconds=30.0):
    """Train the model on one short sequence, without dropout, to see whether it can learn it by heart.

    tokens: T + 1 ids. AdamW without weight decay, at a rate that suits the width. It changes the model: pass a copy.
    """
    for _, module in model.named_modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    settings = {"betas": (0.9, 0.95), "weight_decay": 0.0, "schedule": "constant", "warmup": 10}
    config = TrainConfig(steps, batch_size=1, lr=min(1e-2, 0.5 / model.config.n_embd), **settings)
    trainer = Trainer(model, Batches(tokens, 1, len(tokens) - 1), config)
    losses, ends = [], time.perf_counter() + seconds
    while len(losses) < 10 or (len(losses) < steps and losses[-1] > 0.02 and time.perf_counter() < ends):
        try:
            losses.append(trainer.step(len(losses))[0])
        except DivergedError:
            losses.append(math.nan)
            break
    least = min(losses) if math.isfinite(losses[-1]) else math.nan
    return Finding(
        "overfitting one sequence",
        f"{losses[0]:.3f} to {least:.3f} nats in {len(losses)} steps on {len(tokens) - 1} tokens",
        judge(not least < 0.1, not least < 0.5 * losses[0] + 0.05),
        "A model that cannot learn one sequence by heart has a fault that no data will cure.",
        "near 0 within some hundred steps (Karpathy 2019, 'A recipe for training neural networks': overfit one batch)",
        "Look for wrong gradients, frozen or dead weights, targets that do not belong to the inputs. If the loss is "
        "still falling, give it more time: --seconds.",
        {"losses": losses},
    )


def updates(trainer, step):
    """Two findings from one trial update at a step: the relative sizes of updates, and the gradients by block.

    It changes the trainer's model: pass a copy.
    """
    parameters = trainer.model.flat
    matrices = [name for name in parameters.trained if parameters[name].ndim == 2]
    trainer.gradients(step)
    gradients = {name: size(parameters[name].grad) for name in matrices}
    parameters.zero_grad()
    before = {name: parameters[name].data.copy() for name in matrices}
    try:
        trainer.step(step)
        finite = True
    except DivergedError:
        finite = False
    ratios = {name: size(parameters[name].data - w) / size(w) for name, w in before.items() if size(w)}
    return [update_ratios(ratios), gradient_depth(gradients, finite)]


def size(x):
    """√Σ x² of an array, a Python float."""
    return float(np.linalg.norm(to_device(x, "cpu").astype(np.float64)))


def update_ratios(ratios):
    low = [name for name, ratio in ratios.items() if ratio < 1e-5]
    high = [name for name, ratio in ratios.items() if not ratio <= 1e-1]
    values = np.array(list(ratios.values()) or [math.nan])
    outside = ", ".join((high + low)[:3]) + (", …" if len(low + high) > 3 else "")
    return Finding(
        "update of a step / weights",
        f"median {np.median(values):.1e}, from {values.min():.1e} to {values.max():.1e}"
        + f"; outside: {outside}" * bool(outside),
        judge(low or high, not len(low + high) < max(1, len(ratios)) / 2),
        "How much each matrix changes in one step at the full learning rate, relative to its size.",
        "about 1e-3 (Karpathy, CS231n notes, 'Ratio of weights:updates'); some 1e-2 with Muon, whose steps do not "
        "shrink with the gradient (3e-2 in modern-tiny after 200 steps); below 1e-5 it hardly learns, above 1e-1 it "
        "forgets what it knew",
        "Too high: lower the learning rate or warm up longer. Too low: raise it, or find out why no gradient arrives.",
        ratios,
    )


def gradient_depth(gradients, finite):
    """Compare the gradients of the first and the last block. gradients: {name of a matrix: norm}."""
    blocks = {}
    for name, norm in gradients.items():
        if name.startswith("h."):
            blocks[int(name.split(".")[1])] = math.hypot(blocks.get(int(name.split(".")[1]), 0.0), norm)
    norms = [blocks[i] for i in sorted(blocks)]
    ratio = norms[0] / norms[-1] if norms and norms[-1] > 0 else math.nan if norms else 1.0
    return Finding(
        "gradients across depth",
        f"first block / last block = {ratio:.2g}" + "; not all finite" * (not finite),
        judge(not 1 / 30 < ratio < 30, not finite or not 1e-3 < ratio < 1e3),
        "Gradients that vanish or explode from layer to layer leave the first layers untrained or unstable.",
        "within a factor of ten: residual streams and norms carry gradients through (Glorot and Bengio 2010; He et al. "
        "2016)",
        "Check the norms, the residual connections and the initial weights: output projections by 1/√(2 L) or zero.",
        {"blocks": norms, "ratio": ratio},
    )


class ActivityObserver(Observer):
    """alive: {module: which hidden units are ever above 0}; entropies: {module: the entropies of its heads}."""

    def __init__(self):
        self.alive, self.entropies = {}, {}

    def operation(self, op, inputs, options, y):
        module = current_module()
        if op in ACTIVATIONS.values() and module.endswith(".mlp"):
            hidden = inputs[0].numpy()
            self.alive[module] = (hidden > 0).reshape(-1, hidden.shape[-1]).any(0)
        elif op is attention:
            self.entropies[module] = entropy(*(x.numpy() for x in inputs))


def activity(model, tokens):
    """Three findings from a batch (B, T): dead hidden units, attention entropy, and the size of the logits."""
    with no_grad(), observing(ActivityObserver()) as seen:
        logits = model(to_device(tokens, model.flat.device)).numpy().astype(np.float64)
    dead = {module: float(1 - units.mean()) for module, units in seen.alive.items()}
    relative = [values.tolist() for values in seen.entropies.values()]
    return [dead_units(dead, tokens.size), attention_entropy(relative), logit_scale(logits, model.config.softcap)]


def dead_units(dead, tokens):
    worst = max(dead, key=dead.get, default=None)
    value = f"at most {dead[worst]:.1%} of a layer, {worst}" if worst else "no hidden layer was found"
    most = dead[worst] if worst else math.nan
    return Finding(
        "dead hidden units",
        f"{value}; over {tokens:,} tokens",
        judge(not most <= 0.1, most > 0.5),
        "A unit whose input is never above 0 outputs 0 (ReLU) or nearly 0 (GELU, SiLU), and hardly learns.",
        "a few percent (Lu et al. 2019, 'Dying ReLU and initialization')",
        "Restart with a lower learning rate and more warm-up; dead units seldom recover.",
        dead,
    )


def entropy(q, k, v):
    """The entropy of each head, (H,) in [0, 1]: the mean over queries of Σ −P log P / ln(number of keys seen).

    P is what the definition of attention keeps for its backward pass.
    """
    B, T, H, _ = q.shape
    S, G = k.shape[1:3]
    q, k, v = (x.astype(wide(x.dtype), copy=False) for x in (q, k, v))
    P = inspect.getclosurevars(attention.rule(q, k, v)[1]).nonlocals["P"].reshape(B, G, H // G, T, S)
    P = P.astype(np.float64)
    nats = -(P * np.log(np.maximum(P, np.finfo(float).tiny))).sum(-1)  # (B, G, R, T)
    seen = np.arange(S - T + 1, S + 1)
    several = seen > 1
    return (nats[..., several] / np.log(seen[several])).mean((0, -1)).reshape(H) if several.any() else np.ones(H)


def attention_entropy(relative):
    """relative: for each layer, the entropies of its heads as shares of their maximum."""
    heads = np.array(relative)
    collapsed = int((~(heads >= 0.02)).sum())
    uniform = bool((heads > 0.9999).all())
    return Finding(
        "attention entropy",
        f"{heads.min():.2f} to {heads.max():.2f} of ln(keys seen), mean {heads.mean():.2f}; "
        f"{collapsed} of {heads.size} heads collapsed",
        judge(collapsed or uniform, collapsed > heads.size / 2),
        "1: a head weighs all keys equally; 0: it looks at one key, and its gradient through the softmax vanishes.",
        "a wide spread from head to head, none at 0; collapse goes with instability (Zhai et al. 2023, 'Stabilizing "
        "transformer training by preventing attention entropy collapse')",
        "Collapsed: lower the learning rate, or normalise queries and keys (qk_norm). All at 1: nothing is learned.",
        {"heads": relative},
    )


def logit_scale(logits, softcap):
    """logits: (B, T, V). Their mean at a position does not change the probabilities, so it is subtracted."""
    centred = logits - logits.mean(-1, keepdims=True)
    most, std = float(abs(centred).max()), float(centred.std())
    saturated = float((abs(logits) > 0.95 * softcap).mean()) if softcap else 0.0
    counts, edges = np.histogram(centred if np.isfinite(most) else [], bins=60)
    value = f"at most {most:.1f} from their mean, standard deviation {std:.2f}"
    return Finding(
        "size of the logits",
        value + (f"; {saturated:.1%} within 5 % of the cap {softcap:g}" if softcap else ""),
        judge(not most <= 60 or saturated > 0.05, not most <= 200 or saturated > 0.5),
        "Logits that grow without need make the model overconfident and its training unstable.",
        "a standard deviation of a few; 20 above the rest is certainty to one in a billion (logit divergence: Wortsman "
        "et al. 2023, 'Small-scale proxies for large-scale transformer training instabilities')",
        "Lower the learning rate of the head, or use weight decay or softcap.",
        {"most": most, "std": std, "saturated": saturated, "counts": counts.tolist(), "edges": edges.tolist()},
    )
