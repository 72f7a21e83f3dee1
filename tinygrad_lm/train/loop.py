"""The training loop: forward, cross-entropy, backward, clip and step, zero the gradients; and again."""

import math
import sys
import time

import numpy as np

from tinygrad_lm import kernels
from tinygrad_lm.backend import to_device
from tinygrad_lm.data.loader import document_starts
from tinygrad_lm.errors import DivergedError
from tinygrad_lm.optim.clipping import clip_gradients
from tinygrad_lm.signals import stop_signals
from tinygrad_lm.threads import parallel, workers
from tinygrad_lm.train.config import make_optimizers
from tinygrad_lm.train.device_steps import AHEAD, DeviceSteps
from tinygrad_lm.train.evaluate import evaluate

ADVICE = "a lower learning rate, more warm-up or a smaller clip; checkpoints saved before are whole"


class Trainer:
    """A model, its optimizers and its batches, a Stream (data/loader.py): all that one training step needs.

    On a CPU each of `threads` threads takes an equal share of every batch, on its own replica of the model: the
    weights are the same memory, the gradients are its own and are added up afterwards. On a GPU the steps are those of
    train/device_steps.py. ahead: how many of them are done before anyone looks at their losses.
    """

    def __init__(self, model, batches, config, threads=1):
        kernels.enable()
        self.model, self.batches, self.config = model, batches, config
        self.optimizers = make_optimizers(model.parameters, config)
        on_cpu = model.parameters.device == "cpu"
        threads = min(threads, config.batch_size) if on_cpu else 1
        self.replicas = [model] + [model.replica() for _ in range(threads - 1)]
        self.device_steps = None if on_cpu else DeviceSteps(self)
        self.ahead = 1 if on_cpu else AHEAD

    def steps(self, first, count):
        """Updates number `first` to first + count − 1. Returns the loss and the norm of each, [(loss, norm), …]; on a
        GPU count is at most `ahead`."""
        if self.device_steps is None:
            return [self.step(step) for step in range(first, first + count)]
        found = self.device_steps(self, first, count)
        for step, (loss, norm) in enumerate(found, start=first):
            if not math.isfinite(loss + norm):
                raise DivergedError(
                    f"training: step {step + 1} has loss {loss} and gradient norm {norm}, seen on the GPU "
                    f"{first + count - 1 - step} steps later; the weights since then are of no use\n"
                    f"  hint : {ADVICE}"
                )
        return found

    def step(self, step):
        """One update of the weights. Returns the loss before it, in nats a token, and the gradient norm."""
        if self.device_steps is not None:
            return self.steps(step, 1)[0]
        parameters = self.model.parameters
        loss = self.gradients(step)
        norm = clip_gradients(parameters, self.config.clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(self.diagnosis(step, loss, norm))
        for optimizer in self.optimizers:
            optimizer.step(self.config.rate(step))
        parameters.zero_grad()
        return loss, norm

    def gradients(self, step):
        """Add to the gradients what the step's batches give. Returns their mean loss."""
        n = len(self.replicas)
        losses = np.zeros(n)  # of each replica: the order of a sum decides its last bits
        for part in range(self.config.accumulate):
            x, y = self.batches(step, part)
            starts = self.starts(x)
            starts = [None] * n if starts is None else np.array_split(starts, n)
            noise = [(self.config.seed, step, part, i) for i in range(n)]
            losses += parallel(self.share, self.replicas, np.array_split(x, n), np.array_split(y, n), starts, noise)
        for replica in self.replicas[1:]:
            self.model.parameters.collect(replica.parameters)
        return sum(losses.tolist())

    def starts(self, x):
        """Where the document of each position begins, if attention is to be kept inside documents, else None."""
        eot = self.batches.document_token
        return None if eot is None else document_starts(x, eot)

    def share(self, model, x, y, starts, noise):
        """Forward and backward of a replica's rows of a batch, arrays where the model is. Returns their part of the
        mean loss, an array of no axes."""
        loss = model.loss(x, y, noise, starts)
        loss = loss * (len(x) / (self.config.batch_size * self.config.accumulate))
        loss.backward()
        return loss.data

    def diagnosis(self, step, loss, norm):
        """Why training cannot go on. Weights and optimizers are as they were before the step."""
        parameters = self.model.parameters
        wrong = [name for name in parameters.trained if not np.isfinite(to_device(parameters[name].grad, "cpu")).all()]
        weights = np.isfinite(to_device(parameters.data, "cpu")).all()
        where = f"{len(wrong)} parameters have such gradients, the first is {wrong[0]}" if wrong else "the loss alone"
        return (
            f"training: step {step + 1} has loss {loss} and gradient norm {norm}; it was not applied\n"
            f"  where : {where}\n"
            f"  weights: {'all finite' if weights else 'not all finite'}; "
            f"learning rate {self.config.lr * self.config.rate(step):.2e}\n"
            f"  hint : {ADVICE}"
        )

    def state(self):
        """What a resumed run needs, as files of arrays by name: {"model": {...}, "optimizer": {...}}."""
        model = {name: to_device(w, "cpu") for name, w in self.model.parameters.masters().items()}
        states = [optimizer.state().items() for optimizer in self.optimizers]
        return {
            "model": model,
            "optimizer": {f"{i}.{k}": to_device(v, "cpu") for i, s in enumerate(states) for k, v in s},
        }

    def load_state(self, state):
        self.model.parameters.load(state["model"])
        for i, optimizer in enumerate(self.optimizers):
            prefix = f"{i}."
            optimizer.load_state(
                {k.removeprefix(prefix): v for k, v in state["optimizer"].items() if k.startswith(prefix)}
            )


def train(trainer, run, validation, first=0):
    """Train from step `first` to the end, evaluating and saving into the Run. Returns how it ended.

    validation: {source: (weight, tokens)}
    "finished", "settled" (validation loss no longer falls), or "SIGINT" or "SIGTERM" (asked to stop; saved first).
    """
    config, log = trainer.config, run.log
    block_size = trainer.model.config.block_size
    tokens = config.batch_size * config.accumulate * block_size
    with workers(len(trainer.replicas)), stop_signals() as received, run.progress(first, config.steps) as bar:
        if config.eval_first and not log.records:
            measure(trainer, run, validation, 0)
            run.save(trainer.state(), 0)
            report(trainer, run, 0)
            if received:
                return received[0]
        elif first in log.curve("validation")[0]:
            report(trainer, run, first)  # rewinding forgot it, since the run may have ended before it was whole
        for steps in stretches(first, config, trainer.ahead):
            began, done = time.perf_counter(), steps.stop
            found = trainer.steps(steps.start, len(steps))
            seconds = (time.perf_counter() - began) / len(steps)
            for step, (loss, norm) in zip(steps, found, strict=True):
                log.write(step=step + 1, loss=loss, norm=norm, rate=config.rate(step), seconds=seconds)
            bar.update(len(steps))
            bar.set_postfix_str(f"loss {loss:.3f}, {tokens / seconds:,.0f} tokens/s", refresh=False)

            if config.evaluates(done):
                measure(trainer, run, validation, done)
            if config.evaluates(done) or received:
                run.save(trainer.state(), done)
            if config.evaluates(done):
                report(trainer, run, done)
            if received:
                return received[0]
            if config.evaluates(done) and settled(log, config.patience):
                return "settled"
    return "finished"


def stretches(first, config, ahead):
    """The steps from `first` on as ranges, at most `ahead` long, each evaluation at the end of one."""
    for done in range(first + 1, config.steps + 1):
        if done - first == ahead or config.evaluates(done):
            yield range(first, done)
            first = done


def measure(trainer, run, validation, done):
    """Evaluate on each source after so many steps. The log gets the losses, their mean by the sources' weights, which
    is *the* validation loss, and what was used of each source."""
    how = (trainer.config.batch_size, trainer.batches.document_token)
    losses = {name: evaluate(trainer.model, tokens, *how) for name, (_, tokens) in validation.items()}
    weights = {name: float(weight) for name, (weight, _) in validation.items()}
    loss = sum(weights[name] * losses[name] for name in losses) / sum(weights.values())
    if not math.isfinite(loss):
        where = ", ".join(name for name in losses if not math.isfinite(losses[name]))
        raise DivergedError(
            f"training: the validation loss after step {done} is {loss}, on {where}; these weights were not saved\n"
            f"  hint : {ADVICE}"
        )
    run.log.write(step=done, validation=loss, validation_sources=losses, sources=trainer.batches.used(done))


def report(trainer, run, done):
    """Draw and sample. No failure of that ends the training, and the weights are saved already."""
    try:
        run.report(trainer.model, done)
    except Exception as error:
        print(f"step {done}: no picture or sample: {type(error).__name__}: {error}", file=sys.stderr)


def settled(log, patience):
    """Have the last `patience` evaluations all failed to improve on the best before them?"""
    losses = log.curve("validation")[1]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])
