"""Look into one answer of a policy's run: every token's probability, advantage and share of the gradient.

Draws a group of answers to one of the run's prompts with the weights of the newest checkpoint, prints the group and one
of its answers, and writes the same as a page.
"""

from pathlib import Path

from tinygrad_lm import files
from tinygrad_lm.commands import spelled
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.kernels.cuda.driver import resolve_device
from tinygrad_lm.learn.response.response import examine_response
from tinygrad_lm.learn.response.response_page import response_page
from tinygrad_lm.learn.response.response_text import response_text
from tinygrad_lm.posttrain.policy.policy_run import PolicyRun
from tinygrad_lm.threads import workers
from tinygrad_lm.train.run import RunFolder

TRIED = 8  # prompts


def add_arguments(parser):
    parser.add_argument("run", metavar="RUN", help="the folder of a run of examples/reinforce.py")
    parser.add_argument(
        "--prompt", type=int, metavar="N", help="a training prompt's number [the first whose answers differ in reward]"
    )
    parser.add_argument(
        "--answer", type=int, metavar="N", help="the number of an answer [that with the largest advantage]"
    )
    parser.add_argument("--out", metavar="FILE", help="the page to write [response.html in the run's folder]")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="[auto]")


def show_response(args):
    """Print one answer, and write its page. Returns the exit status."""
    if "method" not in RunFolder(args.run).config:
        raise ConfigError(
            f"response: {args.run} is not the run of a policy; {spelled('examples/reinforce.py')} makes such runs"
        )
    run = PolicyRun(args.run)
    manifest, state = run.read_checkpoint()
    trainer, _ = run.reopen(resolve_device(args.device))
    trainer.load_state(state)
    with workers(trainer.threads):
        response = examine_first(trainer.batches, args.prompt, args.answer)
    title = f"{run.config['title']}, after {manifest['step']:,} steps: prompt {response.number:,}"
    out = Path(args.out) if args.out else run.path / "response.html"
    try:
        files.replace(out, response_page(response, title).encode())
    except OSError as error:
        raise ConfigError(f"response: cannot write {out}: {error.strerror}") from None
    print(f"{response_text(response, title)}\n\nas a page: {out}")
    return 0


def examine_first(steps, prompt, answer):
    """The Response to a prompt by its number; for None that to the first prompt whose answers differ in reward, if one
    of the first few is such."""
    for number in range(TRIED) if prompt is None else [prompt]:
        response = examine_response(steps, number, answer)
        if response.norm > 0:
            break
    return response
