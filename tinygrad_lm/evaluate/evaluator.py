"""Score and complete texts with a model: the two questions that all tasks ask."""

import json
from dataclasses import dataclass
from pathlib import Path

from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.evaluate.score import encode_pair, score, started
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.programs import progress_bar
from tinygrad_lm.threads import parallel


@dataclass(frozen=True)
class Evaluator:
    """A model, its tokenizer, and the options of the command line."""

    model: object
    tokenizer: object
    batch_size: int = 1  # whole windows per batch, or as many tokens in shorter ones
    stride: int | None = None  # tokens by which the window slides; None: its length
    limit: int | None = None  # evaluate only the first examples of each task; None: all
    shots: int = 0  # solved examples in each prompt
    samples: Path | None = None  # a folder for the generated texts

    def __post_init__(self):
        settings = {
            "batch_size": (self.batch_size, "at least 1", self.batch_size >= 1),
            "limit": (self.limit, "at least 1", self.limit is None or self.limit >= 1),
            "shots": (self.shots, "at least 0", self.shots >= 0),
        }
        check_ranges("evaluation", settings)

    @property
    def start(self):
        """The id that starts a text: bos, or else eot, which ends the previous text; None without either."""
        return self.tokenizer.eot if self.tokenizer.bos is None else self.tokenizer.bos

    def score(self, texts, title):
        """A Score for each pair of texts (context, completion).

        A context begins with bos if the tokenizer has one, also where it is too long for the window: many models
        predict badly without.
        """
        pairs, bos, window = [encode_pair(self.tokenizer, *pair) for pair in texts], self.tokenizer.bos, self.window
        if bos is not None:
            room = lambda completion: window - min(len(completion), self.stride or window)  # for a context beside bos
            pairs = [(started(bos, context, room(completion)), completion) for context, completion in pairs]
        return self.score_ids(pairs, title)

    def score_ids(self, pairs, title):
        """A Score for each pair of arrays of token ids."""
        return score(self.model, pairs, self.start, self.stride, self.batch_size, title)

    @property
    def window(self):
        return self.model.config.block_size

    def complete(self, prompts, n, ends, title):
        """Continue each prompt greedily, for at most n tokens, up to the first of the texts `ends`.

        Prompts are truncated on the left so that the prompt and n tokens fit into the window.
        """
        tokenizer, first = self.tokenizer, [] if self.tokenizer.bos is None else [self.tokenizer.bos]
        room = max(1, self.window - n - len(first))
        with progress_bar(total=len(prompts), unit="text", desc=title, leave=False) as bar:

            def complete_one(prompt):
                ids, text, before = [], "", [*first, *tokenizer.encode(prompt)[-room:].tolist()]
                for token in generate(self.model, before, n, temperature=0, vocab_size=tokenizer.vocab_size):
                    if token in tokenizer.ends:
                        break
                    ids.append(token)
                    text = tokenizer.decode(ids, before)
                    if any(end in text for end in ends):
                        break
                bar.update()
                return min((text.split(end)[0] for end in ends), key=len, default=text)

            return parallel(complete_one, prompts)

    def write_samples(self, task, texts):
        """Write {id: text} of a task to samples/<task>.jsonl, one {"task_id": …, "completion": …} a line."""
        if self.samples is None:
            return
        path = Path(self.samples, f"{task}.jsonl")
        lines = [json.dumps({"task_id": id, "completion": text}) + "\n" for id, text in texts.items()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"samples: cannot write {path}: {error.strerror}; choose another folder") from error
