"""Let a trained run write.

python examples/generate.py runs/... --prompt "ROMEO:"
"""

import argparse
import sys

from tinygrad_lm.backend import resolve_device
from tinygrad_lm.errors import TinygradError
from tinygrad_lm.models.generate import generate
from tinygrad_lm.train.run import Run


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the folder of a run; its best checkpoint writes")
    parser.add_argument("--prompt", default="\n", help="what to continue [a new line]")
    parser.add_argument("--tokens", type=int, default=500, metavar="N", help="how many to write [500]")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 always takes the likeliest [0.8]")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="choose among the K likeliest only [all]")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="choose among the likeliest up to P [1]")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another text [0]")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    args = parser.parse_args(arguments)
    try:
        run = Run(args.run)
        prompt = run.tokenizer.encode(args.prompt).tolist()
        model = run.trained(resolve_device(args.device))
        sampling = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
        tokens = generate(model, prompt, args.tokens, args.seed, **sampling)
        print(args.prompt, end="", flush=True)
        for text in run.tokenizer.stream(tokens):
            print(text, end="", flush=True)
        print()
    except (TinygradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
