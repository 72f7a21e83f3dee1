"""Teach a model to answer: supervised fine-tuning on conversations, with the loss on the answers alone.

python examples/finetune_chat.py gpt2 --data conversations.jsonl --lora 8
python examples/finetune_chat.py runs/... --data instructions --steps 1000 --lr 1e-3    # a small model, a built-in set
python examples/finetune_chat.py Qwen/Qwen3-0.6B-Base --data conversations.jsonl --freeze "wte.*" --packed
python examples/finetune_chat.py --resume runs/...                        # continue where a run was stopped

A line of the file is {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}, or
one of the other forms of tinygrad_lm/posttrain/data/json_lines.py. One question in eight is held out.
"""

import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

from pretrain_shakespeare import train  # the loop

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.data.conversations import Conversations
from tinygrad_lm.posttrain.data.prompts import BUILT_IN, check_unchanged, describe, load_conversations, prompt_of
from tinygrad_lm.posttrain.measure import Examination, marks_table
from tinygrad_lm.posttrain.run import ChatRun, create_chat_run
from tinygrad_lm.programs import program
from tinygrad_lm.train.command import PRETRAINING, command, resolve
from tinygrad_lm.train.config import FINETUNE, LORA, TrainConfig, adapted
from tinygrad_lm.train.shares import shares_of
from tinygrad_lm.train.trainer import Trainer

RECIPE = {"steps": 200, "batch_size": 16, "accumulate": 2}  # the rest as for any fine-tuning
LEARNT = 512  # conversations of those that are trained on are examined, too
OPTIONS = {
    "model": {"nargs": "?", "metavar": "MODEL", "help": "what to begin with: a run, the folder of a model, or a name"},
    "--data": {"metavar": "FILE", "help": f"conversations, JSON lines; or the built-in {', '.join(BUILT_IN)}"},
    "--lora": {"type": int, "metavar": "RANK", "help": "train adapters of this rank and nothing else [0: none]"},
    "--freeze": {"nargs": "+", "metavar": "PATTERN", "help": "names of parameters that are not to be trained [none]"},
    "--packed": {"action": "store_const", "const": True, "help": "several conversations a row, each seen by itself"},
    "--steps": {"type": int, "help": f"updates of the weights [{RECIPE['steps']}]"},
    "--lr": {"type": float, "help": f"learning rate [{FINETUNE['lr']:g}; with --lora {LORA['lr']:g}]"},
    "--batch-size": {"type": int, "metavar": "B", "help": f"rows a batch [{RECIPE['batch_size']}]"},
    "--accumulate": {"type": int, "metavar": "N", "help": f"batches a step [{RECIPE['accumulate']}]"},
    "--dtype": PRETRAINING["--dtype"] | {"help": "as for pretraining [float32]"},
}


@program
def main(arguments=None):
    return command(__doc__, OPTIONS, start, train_and_examine, arguments, SupervisedRun)


def start(model=None, data=None, lora=0, freeze=(), packed=False, device="auto", dtype="float32", out=None, **recipe):
    """Begin a run: a model, its chat format, and conversations."""
    if model is None or data is None:
        raise ConfigError("MODEL is what to begin with, --data what to teach it; or --resume RUN continues a run")
    config = TrainConfig(**(LORA if lora else FINETUNE) | RECIPE | recipe, lora=lora, frozen=tuple(freeze))
    base, chat = load_chat(model, *resolve(device, dtype))
    conversations, held_out = load_conversations(data, chat)
    trainer, examination = supervised(base, chat, conversations, held_out, config, packed)
    tuned, flat = trainer.model, trainer.model.flat
    print(f"model   {model}: trains {flat.grad.size:,} of {flat.data.size:,} parameters on {flat.device}")
    print(f"data    {data}: {trainer.batches.amounts()} to train on")
    print(f"held out: {examination.shown['held out'].amounts()}")
    before = examination.marks(tuned)
    run = create_chat_run(
        out,
        trainer,
        chat,
        base,
        SupervisedRun,
        program="examples/finetune_chat.py",
        title=f"{Path(model).name} on {Path(data).name}",
        measure=["validation loss", "nats a learnt token"],
        questions=[prompt_of(conversation).messages for conversation in held_out[:3]],
        data=describe(data) | {"packed": packed},
        base=model,
        before=before,
    )
    print(f"before\n{run.sample(tuned, 200)}\n")
    return train_and_examine(run, trainer, examination)


def supervised(base, chat, conversations, held_out, config, packed, shares=None):
    """(trainer, examination) for a model that begins as the chat model `base` is."""
    check_packed(packed, base)
    even = base.flat.device != "cpu"
    stream = partial(Conversations, chat=chat, batch_size=config.batch_size, block_size=base.config.block_size)
    batches = stream(conversations, seed=config.seed, accumulate=config.accumulate, packed=packed, even=even)
    tuned = adapted(deepcopy(base), config)
    trainer = Trainer(tuned, batches, config, shares or shares_of(tuned, config))
    return trainer, Examination(stream, conversations[:LEARNT], held_out)


def check_packed(packed, model):
    """Raise ConfigError where learned positions would tell a conversation where in its row it stands."""
    if packed and model.config.position != "rotary":
        raise ConfigError("--packed is for models with rotary positions; this one has learned ones: leave it out")


def train_and_examine(run, trainer, examination, first=0):
    """Train, and print how the model answers before and after. Returns the exit status."""
    status = train(run, trainer, examination, first)
    if status == 0:
        print(f"\n{marks_table(run.config['before'], examination.marks(trainer.model))}")
    return status


class SupervisedRun(ChatRun):
    """A run of this program."""

    def reopen(self, device):
        data, base = self.config["data"], self.base_model(device)
        check_unchanged(data)
        conversations, held_out = load_conversations(data["path"], self.chat)
        shares = self.config["shares"]
        return supervised(base, self.chat, conversations, held_out, self.train_config, data["packed"], shares)


if __name__ == "__main__":
    sys.exit(main())
