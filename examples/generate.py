"""Let a model write: one of your runs, the folder of a published model, or a name such as gpt2.

python examples/generate.py runs/... --prompt "ROMEO:"
python examples/generate.py gpt2 --prompt "In a shocking finding," --top-k 40 --samples 3
python examples/generate.py gpt2 --interactive
"""

import argparse
import os
import sys
from itertools import takewhile

from tinygrad_lm.backend import resolve_device
from tinygrad_lm.errors import ConfigError, TinygradError
from tinygrad_lm.generation.generate import generate_batch, until
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.pretrained.load import load

OPTIONS = {
    "--prompt": {"metavar": "TEXT", "help": "what to continue [the beginning of a text]"},
    "--interactive": {"action": "store_true", "help": "ask for prompts, a line each, until the end of the input"},
    "--tokens": {"type": int, "metavar": "N", "default": 500, "help": "how many to write at the most [500]"},
    "--samples": {"type": int, "metavar": "N", "default": 1, "help": "how many texts, written together [1]"},
    "--stop": {"nargs": "+", "metavar": "TEXT", "default": [], "help": "end where one of these comes [nowhere]"},
    "--logprobs": {"action": "store_true", "help": "a line for each token, with the log of its probability"},
    "--seed": {"type": int, "default": 0, "help": "another seed, other texts [0]"},
    "--device": {"choices": ["auto", "cpu", "cuda"], "default": "auto"},
}
SAMPLING = {  # generation/sampling.py
    "--temperature": {"type": float, "default": 0.8, "help": "0 always takes the likeliest [0.8]"},
    "--top-k": {"type": int, "metavar": "K", "default": 0, "help": "draw among the K likeliest [all]"},
    "--top-p": {"type": float, "metavar": "P", "default": 1.0, "help": "draw among the likeliest up to P together [1]"},
    "--min-p": {
        "type": float,
        "metavar": "P",
        "default": 0.0,
        "help": "draw among those with P times the likeliest's [0]",
    },
    "--repetition-penalty": {
        "type": float,
        "metavar": "X",
        "default": 1.0,
        "help": "what divides old tokens' logits [1]",
    },
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", metavar="MODEL", help="the folder of a run (its best checkpoint), of a model, or a name"
    )
    for name, option in (OPTIONS | SAMPLING).items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # for a terminal that lacks a character
    try:
        if args.samples < 1 or not all(args.stop):
            raise ConfigError(f"--samples must be at least 1 and no --stop empty, found {args.samples}, {args.stop}")
        with explained("fewer --samples or --tokens, or a shorter --prompt"):
            model, tokenizer = load(args.model, resolve_device(args.device))
            if not args.interactive:
                write(model, tokenizer, args.prompt, args)
            while args.interactive:
                try:
                    write(model, tokenizer, input("\nprompt> "), args)
                except TinygradError as error:
                    print(f"error: {error}")
    except (EOFError, KeyboardInterrupt):
        print()
    except BrokenPipeError:  # the reader, such as head, has enough; and so that the last flush does not fail, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (TinygradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write(model, tokenizer, prompt, args):
    """Print the prompt and what follows it: one text as it comes, several one after the other."""
    beginning = [] if tokenizer.bos is None else [tokenizer.bos]
    if not prompt:  # as a text of its own begins
        prompt = "" if beginning or tokenizer.eot is not None else "\n"
        beginning = beginning or [tokenizer.eot] * (tokenizer.eot is not None)
    before = [*beginning, *tokenizer.encode(prompt).tolist()]

    def text_of(tokens):
        return tokenizer.decode([token for token in tokens if token != tokenizer.eot], before)

    def ended(tokens):
        return tokens[-1] == tokenizer.eot or any(stop in text_of(tokens) for stop in args.stop)

    options = {name: getattr(args, name) for name in (option[2:].replace("-", "_") for option in SAMPLING)}
    options |= {"vocab_size": tokenizer.vocab_size, "logprobs": args.logprobs}
    drawn = generate_batch(model, [before] * args.samples, args.tokens, args.seed, ended, **options)
    if args.logprobs:
        for row, token, logprob in drawn:
            print(f"{row:3} {logprob:9.4f}  {tokenizer.decode([token], before)!r}", flush=True)
    elif args.samples == 1:
        tokens = takewhile(lambda token: token != tokenizer.eot, (token for _, token, _ in drawn))
        print(prompt, end="", flush=True)
        for text in until(tokenizer.stream(tokens, before), args.stop):
            print(text, end="", flush=True)
        print()
    else:
        texts = [[] for _ in range(args.samples)]
        for row, token, _ in drawn:
            texts[row].append(token)
        for i, tokens in enumerate(texts, start=1):
            print(f"--- {i}\n{prompt}{''.join(until([text_of(tokens)], args.stop))}")


if __name__ == "__main__":
    sys.exit(main())
