"""The folder of a post-training run: as that of any run, with the chat's template and the model that it began with."""

from shlex import quote

from tinygrad_lm.commands import spelled
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.posttrain.chat.load import chat_from_config
from tinygrad_lm.train import checkpoint
from tinygrad_lm.train.command import create_run
from tinygrad_lm.train.config import adapted
from tinygrad_lm.train.run import RunFolder


class ChatRun(RunFolder):
    """A RunFolder whose model answers messages.

    base/   the weights that it began with, as a checkpoint: resuming needs them, as they may be anybody's
    config  besides: chat (chat.py), measure (what an evaluation measures, and its unit), questions (lists of messages,
            whose answers are its samples)
    """

    def __init__(self, path):
        super().__init__(path)
        self.chat = chat_from_config(self)
        self.measure, self.unit = self.config["measure"]

    def base_model(self, device):
        """The model that the run began with, before it was given adapters or heads."""
        model = GPT(self.model_config, None, self.config["dtype"], device)
        model.flat.load(checkpoint.read_checkpoint(self.path / "base")[1]["model"])
        return model

    def initial_model(self, device):
        return adapted(self.base_model(device), self.train_config)

    def how_to_use(self):
        return f"talk to it:  {spelled('examples/chat.py')} {quote(str(self.path))}"

    def sample(self, model, n):
        """The likeliest answers to the run's questions, at most n tokens each."""
        return "\n\n".join(transcript(model, self.chat, messages, n) for messages in self.config["questions"])


def check_on_cpu(model):
    """Raise ConfigError on a GPU, whose steps run ahead of the host: of batches that depend on the weights, or have any
    length, it would see old ones."""
    if model.flat.device != "cpu":
        raise ConfigError(
            "rewards are learnt on a CPU: a GPU's captured steps cannot wait for answers; use --device cpu"
        )


def create_chat_run(out, trainer, chat, began, kind=ChatRun, **others):
    """A new ChatRun for a trainer, whose model began as the GPT `began`. others: see create_run."""
    start = chat.prompt([{"role": "user", "content": ""}])[0]
    run = create_run(out, trainer, chat.tokenizer, start, kind, chat=chat.to_dict(), **others)
    run.save("base", 0, {"model": began.flat.arrays()}, {})
    return run


def transcript(model, chat, messages, n):
    """A conversation and the likeliest answer to it, at most n tokens, as text."""
    prompt = chat.prompt(messages)
    n = max(0, min(n, model.config.block_size - len(prompt)))
    answer = "".join(chat.stream(generate(model, prompt, n, temperature=0)))
    turns = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n".join([*turns, f"assistant: {answer}"])
