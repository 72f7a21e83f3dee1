"""Whether answers are right: judged by verifiers when drawn, and exactly where one answer alone is right."""

import numpy as np

from tinygrad_lm.backend import to_device
from tinygrad_lm.distributed.dealing import dealt
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.posttrain.policy.rollouts import as_batch, draw_answers, draw_dealt
from tinygrad_lm.posttrain.verifiers.verifiers import VERIFIERS

ROWS = 64  # prompts that are computed together


def verified(answers):
    """The reward of each answer (rollouts.py) by its prompt's verifier, (N,); one that did not end has failed."""
    rewards = [
        VERIFIERS[prompt.verifier](text, prompt.answer) if ended else 0.0
        for prompt, text, ended in zip(answers.prompts, answers.texts, answers.ended, strict=True)
    ]
    return np.array(rewards)


def failure(model, chat, prompts, limit, seed=0):
    """The probability of a wrong answer, 1 − reward: its mean over prompts, and {task: its mean}.

    Where the verifier is `equal` it is exact, by the probability of the one right answer, which needs no draw;
    elsewhere one answer is drawn, the same for the same weights and seed.
    """
    starts = range(0, len(prompts), ROWS)
    found = dealt(lambda i: right(model, chat, prompts[i : i + ROWS], limit, seed, i), starts)
    return by_task(prompts, 1 - np.concatenate(found))


def loss_of_reward(judge, model, chat, prompts, limit, seed=0):
    """Minus the mean of judge(answers), of one answer to each prompt, and {task: its mean}."""
    rows = range(len(prompts))
    pieces = [rows[i : i + ROWS] for i in rows[::ROWS]]
    answers = draw_dealt(model, chat, prompts, limit, seed, rows, pieces)
    return by_task(prompts, -judge(as_batch(chat, prompts, answers)))


def by_task(prompts, found):
    """The mean of an array, one number a prompt, and {task: its mean}."""
    tasks = np.array([prompt.task for prompt in prompts])
    return float(found.mean()), {str(task): float(found[tasks == task].mean()) for task in np.unique(tasks)}


def right(model, chat, prompts, limit, seed, first):
    """The probability that each of some prompts, numbered from `first`, is answered right, (N,)."""
    known = [i for i, prompt in enumerate(prompts) if prompt.verifier == "equal"]
    others = [i for i, prompt in enumerate(prompts) if prompt.verifier != "equal"]
    found = np.zeros(len(prompts))
    if known:
        asked = [prompts[i] for i in known]
        answers = as_batch(chat, asked, [chat.answer(prompt.answer) for prompt in asked])
        tokens, targets = (to_device(x, model.flat.device) for x in (answers.tokens, answers.targets))
        with no_grad():
            found[known] = np.exp(model.log_probability(tokens, targets).numpy().sum(axis=1, dtype=float))
    if others:
        asked = [prompts[i] for i in others]
        drawn = draw_answers(model, chat, asked, limit, seed, [first + i for i in others])
        found[others] = verified(as_batch(chat, asked, drawn))
    return found
