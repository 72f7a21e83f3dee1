"""HumanEval (Chen et al. 2021): Python functions from their descriptions.

Generated code is not executed here. It is written to a file in the format of HumanEval's own checker, which must run
in a sandbox: github.com/openai/human-eval.
"""

import numpy as np

from tinygrad_lm.evaluate.files import expect, read_json_lines
from tinygrad_lm.evaluate.report import exponential, mean

ENDS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]  # Chen et al. 2021, section 2


def read_humaneval(path):
    """[(task id, prompt, solution)]"""
    return read_json_lines(path, lambda record: expect(record, task_id=str, prompt=str, canonical_solution=str))


def evaluate_humaneval(evaluator, problems):
    """Nats per token of the authors' solution after its prompt; --samples also writes the model's solutions."""
    problems = problems[: evaluator.limit]
    scores = evaluator.score([(prompt, solution) for _, prompt, solution in problems], "humaneval")
    nats = mean("nats_per_token", -np.concatenate([score.logprobs for score in scores]))
    if evaluator.samples:
        found = evaluator.complete([prompt for _, prompt, _ in problems], 256, ENDS, "humaneval")
        evaluator.write_samples("humaneval", {id: text for (id, *_), text in zip(problems, found, strict=True)})
    return [nats, exponential("perplexity", nats)]
