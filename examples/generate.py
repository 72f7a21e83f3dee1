"""Generate text with one of your runs, the folder of a published model, or a name such as gpt2.

python examples/generate.py runs/... --prompt "ROMEO:"
python examples/generate.py gpt2 --prompt "In a shocking finding," --top-k 40 --samples 3
python examples/generate.py gpt2 --interactive
"""

import argparse
import sys
from itertools import count, takewhile

from tinygrad_lm.errors import TinygradError, check_ranges
from tinygrad_lm.generation.generate import generate_batch, until
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.pretrained.load import load_pretrained
from tinygrad_lm.programs import ask, program

OPTIONS: dict[str, dict] = {
    "--prompt": {"metavar": "TEXT", "help": "the text to continue [the beginning of a document]"},
    "--special": {"action": "store_true", "help": "special tokens in the prompt, such as <|im_start|>, are tokens"},
    "--interactive": {"action": "store_true", "help": "ask for prompts, one per line, until the end of the input"},
    "--tokens": {"type": int, "metavar": "N", "default": 500, "help": "generate at most N tokens [500]"},
    "--samples": {"type": int, "metavar": "N", "default": 1, "help": "generate N texts, in one batch [1]"},
    "--stop": {"nargs": "+", "metavar": "TEXT", "default": [], "help": "end before the first of these [nowhere]"},
    "--logprobs": {"action": "store_true", "help": "print one line per token, with its log-probability"},
    "--seed": {"type": int, "default": 0, "help": "of the random draws [0]"},
    "--device": {"choices": ["auto", "cpu", "cuda"], "default": "auto", "help": "[auto]"},
}
SAMPLING = {  # the fields of generation/sampling.py's Sampler
    "--temperature": {"type": float, "default": 0.8, "help": "0 always takes the most likely token [0.8]"},
    "--top-k": {"type": int, "metavar": "K", "default": 0, "help": "draw among the K most likely tokens [all]"},
    "--top-p": {"type": float, "default": 1.0, "help": "draw among the top tokens of this total probability [1]"},
    "--min-p": {"type": float, "default": 0.0, "help": "draw among tokens with this share of the top probability [0]"},
    "--repetition-penalty": {"type": float, "default": 1.0, "help": "divides the logits of earlier tokens [1]"},
}


@program
def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", metavar="MODEL", help="the folder of a run (its best checkpoint), of a model, or a name"
    )
    for name, option in (OPTIONS | SAMPLING).items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    samples = {"--samples": (args.samples, "at least 1", args.samples >= 1)}
    check_ranges("generate", samples | {"--stop": (args.stop, "texts that are not empty", all(args.stop))})
    with explained("fewer --samples or --tokens, or a shorter --prompt"):
        model, tokenizer = load_pretrained(args.model, args.device)
        if args.interactive:
            converse(model, tokenizer, args)
        else:
            print_samples(model, tokenizer, args.prompt, args)


def converse(model, tokenizer, args):
    """Ask for one prompt after the other. A wrong one, such as one with unknown characters, is reported."""
    for turn in count():
        try:
            print_samples(model, tokenizer, ask("\nprompt> "), args, turn)
        except EOFError:
            print()
            return
        except TinygradError as error:
            print(f"error: {error}")


def print_samples(model, tokenizer, prompt, args, turn=0):
    """Print the prompt and its continuation: a single sample token by token, several samples one after the other. No
    two turns share their random numbers."""
    beginning = [] if tokenizer.bos is None else [tokenizer.bos]
    if not prompt:  # start where a document starts
        prompt = "" if beginning or tokenizer.eot is not None else "\n"
        beginning = beginning or [tokenizer.eot] * (tokenizer.eot is not None)
    before = [*beginning, *tokenizer.encode(prompt, args.special).tolist()]

    def text_of(tokens):
        return tokenizer.decode([token for token in tokens if token not in tokenizer.ends], before)

    def ended(tokens):
        return tokens[-1] in tokenizer.ends or any(stop in text_of(tokens) for stop in args.stop)

    options = {name: getattr(args, name) for name in (option[2:].replace("-", "_") for option in SAMPLING)}
    options |= {"vocab_size": tokenizer.vocab_size, "logprobs": args.logprobs}
    options["rows"] = range(turn * args.samples, (turn + 1) * args.samples)
    drawn = generate_batch(model, [before] * args.samples, args.tokens, args.seed, ended, **options)
    if args.logprobs:
        for row, token, logprob, *_ in drawn:
            print(f"{row:3} {logprob:9.4f}  {tokenizer.decode([token], before)!r}", flush=True)
    elif args.samples == 1:
        tokens = takewhile(lambda token: token not in tokenizer.ends, (token for _, token, *_ in drawn))
        texts = until(tokenizer.stream(tokens, before), args.stop)
        print(prompt + next(texts, ""), end="", flush=True)  # together: compiling kernels prints a line before
        for text in texts:
            print(text, end="", flush=True)
        print()
    else:
        texts = [[] for _ in range(args.samples)]
        for row, token, *_ in drawn:
            texts[row].append(token)
        for i, tokens in enumerate(texts, start=1):
            print(f"--- {i}\n{prompt}{''.join(until([text_of(tokens)], args.stop))}")


if __name__ == "__main__":
    sys.exit(main())
