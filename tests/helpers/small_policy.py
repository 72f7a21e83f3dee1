"""Runs of post-training on small untrained models, made without a command line."""

from dataclasses import asdict

import pytest

from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.models.config import GPTConfig
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data import prompts
from tinygrad_lm.posttrain.policy.method import METHODS, RECIPE, Method, in_iterations
from tinygrad_lm.posttrain.policy.policy_run import PolicyRun, policy_trainer
from tinygrad_lm.posttrain.run import create_chat_run
from tinygrad_lm.threads import workers
from tinygrad_lm.train.config import TrainConfig

COUNTS = 12, 4  # prompts to train on, and held out


def policy_run(path, steps=2, method="rloo", dtype="float64", frontier=None, **settings):
    """A PolicyRun on sums that has made so many updates, with an evaluation at the start and the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "COUNTS", COUNTS)
        asked, held_out = prompts.load_prompts("sums")
    chat = Chat(CharTokenizer("+0123456789="))
    base = GPT(GPTConfig(chat.vocab_size, 16, n_layer=1, n_head=2, n_embd=8), 0, dtype)
    base.flat.data *= 5  # untrained, but not indifferent
    method = Method(**METHODS[method] | {"limit": 4, "group": 4} | settings)
    recipe = {"steps": steps, "batch_size": 8, "warmup": 0, "lr": 0.01, "eval_every": steps}
    config = in_iterations(TrainConfig(**RECIPE | recipe), method.passes)
    trainer, validate = policy_trainer(base, chat, asked, held_out, None, method, config, shares=2)
    run = create_chat_run(
        path,
        trainer,
        chat,
        base,
        PolicyRun,
        program="examples/reinforce.py",
        title="sums",
        measure=["1 − reward", "on held-out prompts"],
        questions=[held_out[0].messages],
        data={"path": "sums", "reward": None},
        method=asdict(method),
        levels={"all answers right": 1.0},
        frontier=frontier,
        heads=["score.weight"] if method.advantage == "gae" else [],
    )
    with workers(1):
        run.log_validation(0, trainer.batches.used(0), *validate(trainer.model))
        for step in range(config.steps):
            loss, norm = trainer.step(step)
            figures = trainer.batches.figures(step, loss)
            run.log.write(step=step + 1, **figures, norm=norm, rate_factor=1.0, seconds=0.1)
        run.log_validation(config.steps, trainer.batches.used(config.steps), *validate(trainer.model))
    run.write_checkpoint(trainer.state(), config.steps)
    return run
