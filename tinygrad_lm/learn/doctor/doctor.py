"""Examine a run: is it healthy, and if not, what is wrong and what to do.

Reads the run's log, the weights of a checkpoint and the training text, and changes none of them; of a post-training
run the log alone. Each finding comes with the usual value and its source. Writes two files into the run's folder,
replacing older ones: doctor.png, a picture of the findings, and doctor.json, their numbers. A post-training run has a
picture already.
"""

import json
import math
from dataclasses import replace

import numpy as np

from tinygrad_lm import files
from tinygrad_lm.data.loader import windows
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.learn.doctor.chart import draw
from tinygrad_lm.learn.doctor.log_findings import (
    MARKS,
    WRONG,
    as_text,
    first_loss,
    norm_curve,
    spikes,
    unused_tokens,
    validation_curve,
)
from tinygrad_lm.learn.doctor.model_findings import activity, overfit, updates
from tinygrad_lm.learn.doctor.posttraining import examine_log
from tinygrad_lm.threads import cores, workers
from tinygrad_lm.train.data import reopen_data
from tinygrad_lm.train.run import RunFolder
from tinygrad_lm.train.trainer import Trainer

COUNTED = 2**24  # at most so many tokens of the training text are counted


def add_arguments(parser):
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("--checkpoint", choices=["best", "newest"], default="newest", help="[newest]")
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit for overfitting one sequence [30]")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="[auto]")


def examine_run(args):
    """Print the findings, write doctor.json and doctor.png into the run's folder. Status 1 if one is wrong."""
    return report(RunFolder(args.run), args.checkpoint, args.seconds, args.device)


def report(run, which="newest", seconds=30.0, device="auto"):
    """Examine a RunFolder as the command does. Returns the exit status."""
    if of_posttraining := examine_log(run):
        table, findings = of_posttraining
        step, written = run.log.records[-1]["step"], "doctor.json"
        print(f"doctor  {run.path}, by its log of {step:,} steps\n\n{table}\n")
    else:
        step, findings = examine(run, which, seconds, resolve_device(device))
        written = "doctor.png, .json"
        print(f"doctor  {run.path}, {which} checkpoint, after {step:,} steps\n")
        draw(run, findings, run.path / "doctor.png")
    for finding in findings:
        print(as_text(finding))
    content = json.dumps({"step": step, "findings": [vars(finding) for finding in findings]})
    content = json.loads(content, parse_constant=lambda _: None)  # JSON has no NaN
    files.replace(run.path / "doctor.json", json.dumps(content, indent=1).encode())
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in MARKS}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; in {run.path}: {written}")
    return 1 if counts[WRONG] else 0


def examine(run, which, seconds, device):
    """The step of the checkpoint, and all findings of a run in the order of the report."""
    manifest, state = run.read_checkpoint(which)
    batches, validation = reopen_data(run)

    def fresh_model():  # a new one each time, because some examinations change the weights
        model = run.initial_model(device)
        model.flat.load(state["model"])
        return model

    size, config = run.model_config.block_size, run.train_config
    with workers(cores() if device == "cpu" else 1):
        trainer = Trainer(fresh_model(), batches, replace(config, schedule="constant", warmup=0))  # at the full rate
        trainer.load_state(state)
        depth = updates(trainer, min(manifest["step"], config.steps - 1))
        del trainer
        share = [tokens[: math.ceil(weight * (2048 + size)) + 1] for weight, tokens in validation.values()]
        batch = next(windows(np.concatenate(share), size, max(1, 2048 // size)))[0]
        inside = activity(fresh_model(), batch)
        learns = overfit(fresh_model(), batches.beginning(min(size, 64) + 1), seconds=seconds)
    return manifest["step"], [
        first_loss(run.log, run.model_config.vocab_size, "base" in run.config),
        validation_curve(run.log),
        spikes(run.log),
        norm_curve(run.log, config.clip),
        learns,
        *depth,
        *inside,
        unused_tokens(batches.beginning(COUNTED), run.model_config.vocab_size),
    ]
