"""What post-training reaches on tasks whose best policy is known exactly, and how long it takes.

    python benchmarks/posttrain.py sums     # half of the demonstrations are wrong: imitation, then verified rewards
    python benchmarks/posttrain.py play     # a preference for short speeches: DPO, RLOO, and PPO with a reward model

Each begins with the weights of no training, a GPT of 2 layers × 64 with 100,000 parameters.
"""

import argparse
import time
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
from common import machine, record

from tinygrad_lm.data.synthetic.speeches import count_lines, fewer_lines, play_conversations, play_pairs
from tinygrad_lm.data.synthetic.sums import sums, sums_entropy
from tinygrad_lm.data.tokenizers.tokenizer import CharTokenizer
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.posttrain.data.conversations import Conversations
from tinygrad_lm.posttrain.data.preferences import Comparisons, Preferences, evaluate_pairs
from tinygrad_lm.posttrain.data.prompts import prompt_of
from tinygrad_lm.posttrain.measure import evaluate_conversations
from tinygrad_lm.posttrain.objectives import bradley_terry, dpo, policy_gradient, ppo
from tinygrad_lm.posttrain.policy.method import METHODS, RECIPE, Method
from tinygrad_lm.posttrain.policy.policy import PolicySteps
from tinygrad_lm.posttrain.policy.rollouts import as_batch, draw_answers
from tinygrad_lm.posttrain.policy.success import failure, verified
from tinygrad_lm.posttrain.reward import judge, scored
from tinygrad_lm.threads import cores, workers
from tinygrad_lm.train.config import RECIPES, TrainConfig
from tinygrad_lm.train.shares import default_shares
from tinygrad_lm.train.trainer import Trainer

IMITATE = RECIPES["modern-tiny"]  # Muon: AdamW alone takes twice as many steps here
BLOCK, LIMIT = 128, 100  # tokens of a conversation with the play, and of an answer
PREFER = {"betas": (0.9, 0.95), "weight_decay": 0.0, "schedule": "linear", "warmup": 20}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["sums", "play"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine())
    with workers(cores()):
        {"sums": learn_sums, "play": learn_play}[args.task](args.seed)


def learn_sums(seed):
    """Imitation ends where half of the answers are right, which is its optimum; rewards go on from there."""
    chat = Chat(CharTokenizer("+0123456789="))
    base = GPT(replace(PRESETS["modern-tiny"], vocab_size=chat.vocab_size, block_size=24), seed)
    shown, unseen = list(sums(120_000, seed, noise=0.5)), list(sums(1000, seed, "held-out", 0.5))
    prompts, held_out = list(map(prompt_of, sums(8000, seed))), list(map(prompt_of, unseen))
    config = TrainConfig(**IMITATE | {"steps": 1200, "batch_size": 128, "seed": seed})
    seconds = train(base, Conversations(shown, chat, 128, 24, seed), config)
    loss = evaluate_conversations(base, Conversations(unseen, chat, 128, 24))
    success, floor = 1 - failure(base, chat, held_out, 8)[0], sums_entropy(0.5) / 4
    print(f"imitation: loss {loss:.4f} (floor {floor:.4f}), P(right) {success:.4f} (optimum 0.5), {seconds:.0f} s")
    record("sums", stage="imitation", loss=loss, floor=floor, success=success, seconds=seconds)
    for name in ("rloo", "dr-grpo", "grpo"):
        model, method = deepcopy(base), Method(**METHODS[name] | {"limit": 8})
        config = TrainConfig(**RECIPE | {"steps": 150, "batch_size": 512, "lr": 3e-4, "seed": seed})
        steps = PolicySteps(model, base, chat, prompts, verified, method, config, default_shares(config))
        seconds = train(model, steps, config, policy_gradient)
        success, kl = 1 - failure(model, chat, held_out, 8)[0], steps.figures(149, 0.0)["kl"]
        print(f"{name}: P(right) {success:.4f}, KL {kl:.3f} nats, {seconds:.0f} s")
        record("sums", stage=name, success=success, kl=kl, seconds=seconds)


def learn_play(seed):
    """The reward is minus the number of lines; policies are compared with π* ∝ π_ref exp(r/β) at β = 1."""
    chat = Chat(CharTokenizer.from_text("".join(map(text_of, play_conversations(2000, 99)))))
    base = GPT(replace(PRESETS["modern-tiny"], vocab_size=chat.vocab_size, block_size=BLOCK), seed)
    config = TrainConfig(**IMITATE | {"steps": 800, "batch_size": 32, "seed": seed})
    seconds = train(base, Conversations(list(play_conversations(12_000, seed)), chat, 32, BLOCK, seed), config)
    prompts = list(map(prompt_of, play_conversations(4000, seed + 1)))
    n = report("imitation", base, base, chat, prompts, seconds)
    own = (n * np.exp(-n)).sum() / np.exp(-n).sum()
    print(f"optimum: {fewer_lines(1).lines:.3f} lines from the grammar, {own:.3f} from the model's own answers")

    pairs, held_out = (
        fitting(play_pairs(count, seed, split)) for count, split in ((12_000, "train"), (2000, "held-out"))
    )
    config = TrainConfig(**PREFER | {"steps": 400, "batch_size": 32, "lr": 1e-3, "seed": seed})
    model = deepcopy(base)
    stream = partial(Preferences, chat=chat, batch_size=32, block_size=BLOCK, reference=base, beta=1.0)
    seconds = train(model, stream(pairs, seed=seed), config, partial(dpo, beta=1.0))
    compare("DPO", model, stream(held_out), held_out)
    report("DPO", model, base, chat, prompts, seconds)

    policy("rloo", base, chat, prompts, lambda answers: -lines_of(answers), Method(beta=1.0, limit=LIMIT), seed)

    teacher = scored(base)
    stream = partial(Comparisons, chat=chat, batch_size=32, block_size=BLOCK)
    train(teacher, stream(pairs, seed=seed), config, bradley_terry)
    compare("reward model", teacher, stream(held_out), held_out)
    method = Method(**METHODS["ppo"] | {"beta": 1.0, "limit": LIMIT})
    policy("ppo", base, chat, prompts, partial(judge, teacher), method, seed)


def fitting(pairs):
    """The pairs whose answers fit into the context, with their prompts."""
    return [pair for pair in pairs if max(len(pair.chosen), len(pair.rejected)) < LIMIT]


def compare(name, model, stream, pairs):
    """Print the loss of held-out pairs and its floor, the entropy of their labels, and the share that is told apart."""
    p = 1 / (1 + np.exp([-abs(count_lines(pair.rejected) - count_lines(pair.chosen)) for pair in pairs]))
    floor, ceiling = -(p * np.log(p) + (1 - p) * np.log1p(-p)).mean(), p.mean()
    loss, _, figures = evaluate_pairs(model, stream)
    print(f"{name}: loss {loss:.4f} (floor {floor:.4f}), accuracy {figures['accuracy']:.4f} (ceiling {ceiling:.4f})")
    record("play", stage=name, loss=loss, floor=float(floor), accuracy=figures["accuracy"], ceiling=float(ceiling))


def policy(name, base, chat, prompts, judged, method, seed):
    """Train a policy and report how it compares with the optimum."""
    with_values = method.advantage == "gae"
    model = scored(base) if with_values else deepcopy(base)
    config = TrainConfig(**RECIPE | {"steps": 120 * method.passes, "batch_size": 128, "lr": 3e-4, "seed": seed})
    steps = PolicySteps(model, base, chat, prompts, judged, method, config, default_shares(config))
    objective = partial(ppo, clip=method.clip, value_weight=method.value_weight) if with_values else policy_gradient
    seconds = train(model, steps, config, objective)
    report(name, model, base, chat, prompts, seconds)


def report(name, model, base, chat, prompts, seconds):
    """Print mean lines ± standard error and the KL divergence of 512 answers. Returns the lines of each that ended."""
    answers = as_batch(chat, prompts[:512], draw_answers(model, chat, prompts[:512], LIMIT, 1, range(512)))
    n, legal = lines_of(answers), float(verified(answers).mean())
    kl = float((every_logp(model, answers) - every_logp(base, answers)).mean())
    lines, error = float(n.mean()), float(n.std() / len(n) ** 0.5)
    print(f"{name}: {lines:.3f} ± {error:.3f} lines, KL {kl:.3f} nats, legal {legal:.3f}, {seconds:.0f} s")
    record("play", stage=name, lines=lines, error=error, kl=kl, legal=legal, seconds=seconds)
    return n[answers.ended]


def every_logp(model, answers):
    """The log-probability of each answer, (N,)."""
    return model.log_probability(answers.tokens, answers.targets).numpy().sum(axis=1)


def lines_of(answers):
    """The number of lines of each answer, (N,)."""
    return np.array([count_lines(text) for text in answers.texts], float)


def text_of(conversation):
    return "".join(message["content"] for message in conversation.messages)


def train(model, batches, config, *objective):
    """Train a model in place. Returns the seconds that it took."""
    trainer = Trainer(model, batches, config, default_shares(config), None, *objective)
    began = time.perf_counter()
    for step in range(config.steps):
        trainer.step(step)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
