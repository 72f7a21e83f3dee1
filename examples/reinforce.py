"""Sharpen a chat model by rewards: draw answers, judge them, make the better ones more probable.

python examples/reinforce.py runs/chat --data sums                        # answers that a verifier can check (RLVR)
python examples/reinforce.py runs/chat --data prompts.jsonl --method grpo
python examples/reinforce.py runs/chat --data play --reward runs/reward --method ppo --beta 1   # by a model (RLHF)
python examples/reinforce.py --resume runs/...                            # continue where a run was stopped

A line of a prompts file is {"prompt": "17+05=", "answer": "022", "verifier": "equal"}: see docs/posttraining.md.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from pretrain_shakespeare import train  # the loop

from tinygrad_lm.data.synthetic.speeches import best_gains
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.doctor.posttraining import report_log
from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.posttrain.data.prompts import describe, load_prompts
from tinygrad_lm.posttrain.policy.method import METHODS, RECIPE, Method, in_iterations
from tinygrad_lm.posttrain.policy.policy_run import PolicyRun, policy_trainer
from tinygrad_lm.posttrain.reward import HEAD
from tinygrad_lm.posttrain.run import create_chat_run
from tinygrad_lm.programs import program
from tinygrad_lm.train.command import PRETRAINING, command, resolve
from tinygrad_lm.train.config import TrainConfig

OPTIONS = {
    "model": {"nargs": "?", "metavar": "MODEL", "help": "a chat model: a run of finetune_chat.py, a folder, a name"},
    "--data": {"metavar": "FILE", "help": "prompts, JSON lines; or the built-in instructions, sums or play"},
    "--reward": {"metavar": "RUN", "help": "a reward model, of prefer.py [the prompts' verifiers]"},
    "--method": {"choices": METHODS, "help": "[rloo]"},
    "--beta": {"type": float, "help": "weight of the KL divergence from MODEL in the reward [0]"},
    "--group": {"type": int, "metavar": "G", "help": "answers to a prompt [8; ppo: 1]"},
    "--limit": {"type": int, "metavar": "N", "help": "tokens an answer, at most [64]"},
    "--passes": {"type": int, "metavar": "N", "help": "updates on the same answers [1; ppo: 2]"},
    "--batch-size": {"type": int, "metavar": "B", "help": f"answers a batch [{RECIPE['batch_size']}]"},
    "--accumulate": PRETRAINING["--accumulate"],
    "--steps": {"type": int, "help": f"updates of the weights [{RECIPE['steps']}]"},
    "--lr": {"type": float, "help": f"learning rate [{RECIPE['lr']:g}]"},
    "--lora": {"type": int, "metavar": "RANK", "help": "train adapters of this rank and nothing else [0: none]"},
    "--dtype": PRETRAINING["--dtype"] | {"help": "as for pretraining [float32]"},
}
SETTINGS = ("beta", "group", "limit", "passes")  # of a Method that have an option


@program
def main(arguments=None):
    return command(__doc__, OPTIONS, start, train_and_report, arguments, PolicyRun)


def start(model=None, data=None, reward=None, method="rloo", lora=0, device="cpu", dtype="float32", out=None, **recipe):
    """Begin a run: a chat model, prompts, and who judges the answers."""
    if model is None or data is None:
        raise ConfigError("MODEL is what to begin with, --data what to ask it; or --resume RUN continues a run")
    method = Method(**METHODS[method] | {name: recipe.pop(name) for name in SETTINGS if name in recipe})
    config = in_iterations(TrainConfig(**RECIPE | recipe, lora=lora), method.passes)
    base, chat = load_chat(model, *resolve(device, dtype))
    prompts, held_out = load_prompts(data)
    trainer, validate = policy_trainer(base, chat, prompts, held_out, reward, method, config)
    print(f"data    {data}: {len(prompts):,} prompts to train on, {len(held_out):,} held out")
    run = create_chat_run(
        out,
        trainer,
        chat,
        base,
        PolicyRun,
        program="examples/reinforce.py",
        title=f"{Path(model).name} on {Path(data).name}",
        measure=["1 − reward" if reward is None else "− reward", "on held-out prompts"],
        questions=[prompt.messages for prompt in held_out[:3]],
        data=describe(data) | {"reward": reward},
        method=asdict(method),
        levels={"all answers right": 1.0} if reward is None else {},
        frontier=best_gains() if data == "play" and reward is not None else None,  # for pairs of the play
        heads=[HEAD] if method.advantage == "gae" else [],
        base=model,
    )
    return train_and_report(run, trainer, validate)


def train_and_report(run, trainer, validate, first=0):
    """Train, and if that was not stopped, print what came of it. Returns the exit status."""
    return train(run, trainer, validate, first) or report_log(run)


if __name__ == "__main__":
    sys.exit(main())
