"""Talk to a model in the terminal: one of your runs, the folder of a published model, or a name of the hub.

python examples/chat.py runs/...
python examples/chat.py runs/... --temperature 0.7 --system "Answer with one word."

While it asks:
  /system TEXT     give the model other instructions; without TEXT none
  /temperature X   draw with another temperature; 0 always takes the most likely token
  /reset           forget the conversation, but not the instructions
  /quit            end; so does the end of the input, or Ctrl-C. While the model answers, Ctrl-C stops the answer
"""

import argparse
import sys

from tinygrad_lm.errors import ConfigError, TinygradError, check_ranges
from tinygrad_lm.generation.generate import generate
from tinygrad_lm.generation.sampling import Sampler
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.posttrain.chat.load import find_chat, load_chat
from tinygrad_lm.programs import ask, program
from tinygrad_lm.serve.history import fit

OPTIONS: dict[str, dict] = {
    "--system": {"metavar": "TEXT", "default": "", "help": "instructions, before the conversation [none]"},
    "--tokens": {"type": int, "metavar": "N", "default": 500, "help": "at most N tokens an answer [500]"},
    "--temperature": {"type": float, "default": 0.8, "help": "0 always takes the most likely token [0.8]"},
    "--top-p": {"type": float, "default": 1.0, "help": "draw among the top tokens of this total probability [1]"},
    "--seed": {"type": int, "default": 0, "help": "of the random draws [0]"},
    "--device": {"choices": ["auto", "cpu", "cuda"], "default": "auto", "help": "[auto]"},
}
COMMANDS = "/system TEXT, /temperature X, /reset, /quit"


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="the folder of a run, of a model, or a name")
    for name, option in OPTIONS.items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    check_ranges("chat", {"--tokens": (args.tokens, "at least 1", args.tokens >= 1)})
    Sampler(args.temperature, top_p=args.top_p)  # wrong settings end the program before the model is read
    with explained("fewer --tokens"):
        model, chat = load_chat(args.model, args.device)
        print(f"{args.model}: {len(model.flat.data):,} parameters, a context of {model.config.block_size} tokens")
        if find_chat(args.model, chat.tokenizer) is None:
            print("It was not trained to chat: its answers are what it makes of ids that it has never seen.")
        print(f"Type a message, or {COMMANDS}.")
        converse(Conversation(model, chat, args))


def converse(conversation):
    """Answer line after line until the user has enough; wrong input is reported, and asked for again."""
    while True:
        try:
            line = ask("\nyou> ").strip()
            if line == "/quit":
                return
            if line.startswith("/"):
                print(conversation.command(*line.split(maxsplit=1)))
            elif line:
                conversation.answer(line)
        except (EOFError, KeyboardInterrupt):
            print("\nGoodbye.")
            return
        except TinygradError as error:
            print(f"error: {error}")


class Conversation:
    """What was said so far, and how the next answer is drawn."""

    def __init__(self, model, chat, args):
        self.model, self.chat, self.seed, self.tokens = model, chat, args.seed, args.tokens
        self.system, self.messages, self.turn = args.system, [], 0
        self.sampling = {"temperature": args.temperature, "top_p": args.top_p}

    def command(self, name, text=""):
        """Obey one of COMMANDS; return what it did, as a sentence."""
        if name == "/system":
            self.system = text
            return f"The instructions are now: {text}" if text else "There are no instructions now."
        if name == "/temperature":
            try:
                temperature = float(text)
            except ValueError:
                raise ConfigError(f"/temperature needs a number, such as 0.7; found {text!r}") from None
            Sampler(temperature)
            self.sampling["temperature"] = temperature
            return f"The temperature is now {temperature:g}."
        if name == "/reset" and not text:
            self.messages = []
            return "The conversation is forgotten."
        raise ConfigError(f"{name} is not a command; there are {COMMANDS}")

    def answer(self, text):
        """Print the model's answer to a message as it comes, and remember both."""
        asked = {"role": "user", "content": text}
        system = [{"role": "system", "content": self.system}] if self.system else []
        size = self.model.config.block_size
        prompt, dropped = fit(self.chat, [*system, *self.messages, asked], size, min(self.tokens, size // 2))
        if dropped:
            print(f"(the context is full: the oldest {dropped} messages are forgotten)")
            del self.messages[:dropped]
        ids = []
        try:
            for piece in self.chat.stream(self.draw(prompt, min(self.tokens, size - len(prompt)), ids)):
                print(piece, end="", flush=True)
            print()
        except KeyboardInterrupt:
            print("\n(stopped)")
        answer, ended = self.chat.parse(ids)
        if not ended and len(ids) == min(self.tokens, size - len(prompt)):
            print(f"(cut off after {len(ids)} tokens)")
        self.messages += [asked, {"role": "assistant", "content": answer}]

    def draw(self, prompt, n, ids):
        """Yield the tokens of an answer, and append them to ids. No two turns share their random numbers."""
        self.turn += 1
        drawn = generate(
            self.model, prompt, n, self.seed, rows=[self.turn], vocab_size=self.chat.vocab_size, **self.sampling
        )
        for token in drawn:
            ids.append(token)
            yield token


if __name__ == "__main__":
    sys.exit(main())
