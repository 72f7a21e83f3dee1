"""Teach a chat model what people prefer, from pairs of answers of which one is better.

python examples/prefer.py runs/chat --data pairs.jsonl                # DPO: the model itself learns to prefer
python examples/prefer.py runs/chat --data pairs.jsonl --reward       # a reward model, for examples/reinforce.py
python examples/prefer.py runs/chat --data play --beta 1              # the built-in pairs: speeches with fewer lines
python examples/prefer.py --resume runs/...                           # continue where a run was stopped

A line of the file is {"prompt": "How are you?", "chosen": "Fine, thanks.", "rejected": "Why?"}: see
tinygrad_lm/posttrain/data/json_lines.py. One prompt in eight is held out.
"""

import math
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

from pretrain_shakespeare import train  # the loop

from tinygrad_lm.data.synthetic.speeches import label_floors
from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.learn.doctor.posttraining import report_log
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.data.preferences import Comparisons, Preferences, evaluate_pairs
from tinygrad_lm.posttrain.data.prompts import check_unchanged, describe, load_pairs
from tinygrad_lm.posttrain.objectives import bradley_terry, dpo
from tinygrad_lm.posttrain.policy.pictures import draw_preferences
from tinygrad_lm.posttrain.reward import HEAD, scored
from tinygrad_lm.posttrain.run import ChatRun, check_on_cpu, create_chat_run
from tinygrad_lm.programs import program
from tinygrad_lm.train.command import PRETRAINING, command, resolve
from tinygrad_lm.train.config import FINETUNE, TrainConfig, adapted
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

RECIPE = {"steps": 200, "batch_size": 16, "accumulate": 1, "lr": 1e-5, "weight_decay": 0.0, "warmup": 20}
OPTIONS = {
    "model": {"nargs": "?", "metavar": "MODEL", "help": "a chat model: a run of finetune_chat.py, a folder, a name"},
    "--data": {"metavar": "FILE", "help": "pairs, JSON lines; or the built-in play"},
    "--reward": {"action": "store_const", "const": True, "help": "train a reward model instead"},
    "--beta": {"type": float, "help": "how close DPO keeps to MODEL: the weight of the KL divergence [0.1]"},
    "--steps": {"type": int, "help": f"updates of the weights [{RECIPE['steps']}]"},
    "--lr": {"type": float, "help": f"learning rate [{RECIPE['lr']:g}]"},
    "--batch-size": {"type": int, "metavar": "B", "help": f"pairs a batch [{RECIPE['batch_size']}]"},
    "--accumulate": PRETRAINING["--accumulate"],
    "--lora": {"type": int, "metavar": "RANK", "help": "train adapters of this rank and nothing else [0: none]"},
    "--dtype": PRETRAINING["--dtype"] | {"help": "as for pretraining [float32]"},
}


@program
def main(arguments=None):
    return command(__doc__, OPTIONS, start, train_and_report, arguments, PreferenceRun)


def start(model=None, data=None, reward=False, beta=0.1, lora=0, device="cpu", dtype="float32", out=None, **recipe):
    """Begin a run: a chat model and pairs."""
    if model is None or data is None:
        raise ConfigError("MODEL is what to begin with, --data what is preferred; or --resume RUN continues a run")
    check_ranges("prefer", {"--beta": (beta, "above 0", 0 < beta < float("inf"))})
    config = TrainConfig(**FINETUNE | RECIPE | recipe, lora=lora)
    base, chat = load_chat(model, *resolve(device, dtype))
    pairs, held_out = load_pairs(data, chat)
    trainer, validate = preference_trainer(base, chat, pairs, held_out, reward, beta, config)
    batches = trainer.batches
    print(
        f"data    {data}: {batches.kept:,} pairs ({batches.skipped:,} skipped as too long), {len(held_out):,} held out"
    )
    run = create_chat_run(
        out,
        trainer,
        chat,
        base,
        PreferenceRun,
        program="examples/prefer.py",
        title=f"{'reward model' if reward else f'DPO, β = {beta:g}'}: {Path(model).name} on {Path(data).name}",
        measure=["validation loss", "nats per pair"],
        questions=[] if reward else [pair.prompt for pair in held_out[:3]],
        data=describe(data) | {"reward": reward, "beta": beta},
        levels={"no preference": math.log(2)}
        | ({"entropy of the labels": label_floors()[0]} if data == "play" else {}),
        highest=label_floors()[1] if data == "play" else None,
        heads=[HEAD] if reward else [],
        base=model,
    )
    return train_and_report(run, trainer, validate)


def train_and_report(run, trainer, validate, first=0):
    """Train, and if that was not stopped, print what came of it. Returns the exit status."""
    return train(run, trainer, validate, first) or report_log(run)


def preference_trainer(base, chat, pairs, held_out, reward, beta, config, shares=None):
    """(trainer, validate) for a model that begins as the chat model `base` is, which is DPO's reference."""
    check_on_cpu(base)
    stream = partial(Comparisons) if reward else partial(Preferences, reference=base, beta=beta)
    stream = partial(stream, chat=chat, batch_size=config.batch_size, block_size=base.config.block_size)
    batches = stream(pairs, seed=config.seed, accumulate=config.accumulate)
    model = adapted(scored(base) if reward else deepcopy(base), config)
    objective = bradley_terry if reward else partial(dpo, beta=beta)
    trainer = Trainer(model, batches, config, shares or shares_of(model, config), objective=objective)
    return trainer, partial(evaluate_pairs, stream=stream(held_out, name="held out"))


class PreferenceRun(ChatRun):
    """A run of this program. config besides: highest, the largest share of pairs in the right order, None if unknown"""

    picture = "preferences.png"

    def draw(self):
        config = self.config
        score = "score" if config["heads"] else "log π / π_ref, nats per answer"
        path, known = self.path / self.picture, (config["levels"], config["highest"])
        draw_preferences(self.log, path, config["title"], *known, score)

    def reopen(self, device):
        data, base, shares = self.config["data"], self.base_model(device), self.config["shares"]
        check_unchanged(data)
        pairs, held_out = load_pairs(data["path"], self.chat)
        config = self.train_config
        return preference_trainer(base, self.chat, pairs, held_out, data["reward"], data["beta"], config, shares)


if __name__ == "__main__":
    sys.exit(main())
