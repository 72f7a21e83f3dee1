"""Time of a step of post-training, ours against TRL's trainers and against transformers with plain losses.

    python benchmarks/posttrain_step.py                        # both models; SFT, DPO and a policy gradient
    taskset -c 0 python benchmarks/posttrain_step.py           # on one core, where others use the machine

Same network, weights, batches and AdamW, in float32: forward, loss, backward, clipping and update, on answers that are
given; DPO's reference is computed before. TRL runs with its trainers' own `training_step`, on all cores, without
activation checkpointing and without bfloat16, both of which are slower on a CPU. They take turns, a few steps each, so
that whatever else the machine does falls on all; medians and their ratios are printed, and lines are added to
results.jsonl.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial

os.environ |= {"CI": "1", "HF_HUB_OFFLINE": "1"}  # no telemetry, no network

import datasets
import numpy as np
import torch
import transformers
import trl
from common import machine, record
from torch.nn import functional as F

from tinygrad_lm.data.loader import BatchStream
from tinygrad_lm.data.tokenizers.tokenizer import ByteTokenizer
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.posttrain.objectives import dpo, policy_gradient
from tinygrad_lm.pretrained.export import export
from tinygrad_lm.threads import cores, keep_memory, workers
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.objective import IGNORED, next_token
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer

# layers, heads, channels, rows, tokens a row, steps a turn
MODELS = {"2x64": (2, 2, 64, 16, 64, 20), "6x384": (6, 6, 384, 8, 256, 2)}
BETA, CLIP = 0.1, 0.2
OPTIMIZER = {"lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.0}  # so that no group is treated differently


class Same(BatchStream):
    """One batch, at every step."""

    def __init__(self, batch):
        super().__init__({"given": (Fraction(1), [])}, len(batch[0]), batch[0].shape[-1], 0, 1)
        self.batch = batch

    def __call__(self, step, part=0):
        return self.batch


def batches(vocab_size, rows, T, model):
    """{task: (objective, our batch)} of random ids: prompts of T / 4 tokens, answers of T / 4 to 3 T / 4."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocab_size, (rows, T + 1))
    tokens[1::2, : T // 4] = tokens[::2, : T // 4]  # two answers to each prompt
    ends = rng.integers(T // 2, T + 1, rows)
    ends[0] = T
    places = np.arange(T)
    targets = np.where((places >= T // 4 - 1) & (places < ends[:, None]), tokens[:, 1:], IGNORED)
    tokens = tokens[:, :-1]
    mask = targets != IGNORED
    logp = model.log_probability(tokens, targets).numpy()
    advantages = (rng.standard_normal((rows, 1)) / T * mask).astype(np.float32)
    pairs = tokens.reshape(-1, 2, T), targets.reshape(-1, 2, T), logp.sum(axis=1).reshape(-1, 2)
    return {
        "SFT": (next_token, (tokens, targets)),
        "DPO": (partial(dpo, beta=BETA), pairs),
        "GRPO": (partial(policy_gradient, clip=CLIP), (tokens, targets, advantages, logp)),
    }


def ours(model, objective, batch):
    """step(i) -> the loss before the update."""
    rows = len(batch[0])
    config = TrainConfig(10**6, rows, schedule="constant", warmup=0, **OPTIMIZER)
    trainer = Trainer(model, Same(batch), config, default_shares(config), objective=objective)
    return lambda i: trainer.step(i)[0]


def theirs(model, compute, batch):
    """step(i) of a PyTorch model. compute(batch) -> loss, its gradients added."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **OPTIMIZER)

    def step(i):
        loss = compute(batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def plain(task, model, tokens, targets, *more):
    """A loss in PyTorch's own operations, on the logits of transformers."""
    logits = model(tokens).logits
    if task == "SFT":
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    mask = targets != IGNORED
    logp = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0] * mask
    if task == "DPO":
        score = BETA * (logp.sum(1).view(-1, 2) - more[0])
        return -F.logsigmoid(score[:, 0] - score[:, 1]).mean()
    advantages, old = more
    ratio = (logp - old).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages).sum() / len(tokens)


def with_transformers(folder, task, batch):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).train()
    arrays = [torch.from_numpy(x.reshape(-1, x.shape[-1]) if x.ndim == 3 else x) for x in batch]

    def compute(arrays):
        loss = plain(task, model, *arrays)
        loss.backward()
        return loss.detach()

    return theirs(model, compute, arrays)


def with_trl(folder, task, batch):
    """A trainer of TRL, with a batch as its collator or its rollouts would make it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.convert_ids_to_tokens(0)
    rows = {
        "SFT": {"input_ids": [1, 2], "labels": [1, 2]},
        "DPO": {"prompt": "a", "chosen": "b", "rejected": "c"},
        "GRPO": {"prompt": "a"},
    }
    tokens, targets, *more = (torch.from_numpy(x) for x in batch)
    settings, arguments = {}, {}
    if task == "GRPO":
        settings = {
            "epsilon": CLIP,
            "loss_type": "dr_grpo",
            "max_completion_length": 1,
        }  # the length is in the advantages
        settings |= {"num_generations": 2, "per_device_train_batch_size": len(tokens)}
        arguments = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    config = getattr(trl, f"{task}Config")(
        output_dir=os.path.join(folder, "run"), use_cpu=True, bf16=False, activation_checkpointing=False,
        disable_tqdm=True, report_to="none", **settings,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    data = datasets.Dataset.from_list([rows[task]] * len(tokens))
    if task == "DPO":
        arguments = {"ref_model": transformers.AutoModelForCausalLM.from_pretrained(folder)}
    trainer = getattr(trl, f"{task}Trainer")(
        model, args=config, train_dataset=data, processing_class=tokenizer, **arguments
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer._prepare_inputs = lambda given: given  # GRPO's would draw
    trainer.model.train()
    return theirs(model, lambda x: trainer.training_step(model, dict(x), None), trl_batch(task, tokens, targets, *more))


def trl_batch(task, tokens, targets, *more):
    """Rows have one token more there, the last target, which is read and not used."""
    if task == "DPO":  # chosen ones first
        tokens, targets = (x.transpose(0, 1).flatten(0, 1) for x in (tokens, targets))
    learnt = F.pad(targets, (1, 0), value=IGNORED)
    mask = learnt != IGNORED
    ids = torch.where(mask, learnt, F.pad(tokens, (0, 1)))
    first = int(mask.int().argmax(dim=1)[0])  # all prompts are as long
    there = mask | (torch.arange(ids.shape[1]) < first)
    if task == "SFT":
        return {"input_ids": ids, "labels": learnt, "attention_mask": there.long()}
    if task == "DPO":
        given = {"ref_chosen_logps": more[0][:, 0], "ref_rejected_logps": more[0][:, 1]}
        return {"input_ids": ids, "attention_mask": there.long(), "completion_mask": mask.long(), **given}
    return {
        "prompt_ids": ids[:, :first], "prompt_mask": there[:, :first].long(),
        "completion_ids": ids[:, first:], "completion_mask": mask[:, first:].long(),
        "advantages": more[0].sum(dim=1) / mask.sum(dim=1),
        "old_per_token_logps": F.pad(more[1], (1, 0))[:, first:],
        "num_items_in_batch": mask.sum(),
    }  # fmt: skip


def compare(name, rounds):
    layers, heads, channels, rows, T, steps = MODELS[name]
    tokenizer = ByteTokenizer()
    shape = replace(
        PRESETS["gpt2"], vocab_size=tokenizer.vocab_size, block_size=T + 1, n_layer=layers, n_head=heads,
        n_embd=channels, dropout=0.0,
    )  # fmt: skip
    print(f"\n{name}: GPT-2 of {layers} layers × {channels}, {tokenizer.vocab_size} ids, batch {rows} × {T}")
    with tempfile.TemporaryDirectory() as place:
        folder = os.path.join(place, "model")
        export(GPT(shape), tokenizer, folder)
        for task, (objective, batch) in batches(tokenizer.vocab_size, rows, T, GPT(shape)).items():
            contenders = {
                "tinygrad_lm": ours(GPT(shape), objective, batch),
                "TRL": with_trl(folder, task, batch),
                "transformers": with_transformers(folder, task, batch),
            }
            times, losses = {contender: [] for contender in contenders}, {contender: [] for contender in contenders}
            for turn in range(rounds + 1):
                for contender, step in contenders.items():
                    with workers(cores()) if contender == "tinygrad_lm" else nullcontext():
                        for i in range(steps):
                            began = time.perf_counter()
                            losses[contender].append(step(turn * steps + i))
                            if turn:  # the first round warms up
                                times[contender].append(time.perf_counter() - began)
            medians = {contender: statistics.median(seconds) for contender, seconds in times.items()}
            for contender, seconds in medians.items():
                ratio, first = seconds / medians["tinygrad_lm"], losses[contender][0]
                last = losses[contender][-1]
                print(
                    f"  {task:5}{contender:13}{seconds * 1e3:8.2f} ms a step {ratio:6.2f} × our time, "
                    f"loss {first:.6f}, then {last:.6f}"
                )
            record("posttrain_step", model=name, task=task, seconds=medians, load=os.getloadavg()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    keep_memory()  # for all contenders alike, and before any of them starts threads
    torch.set_num_threads(cores())
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", ".*deprecated and will be removed in v6")  # names that TRL calls
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, TRL {trl.__version__}")
    for name in args.model or MODELS:
        compare(name, args.rounds)


if __name__ == "__main__":
    main()
