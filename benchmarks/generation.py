"""Speed of generation at GPT-2's 124M shape: ours, transformers with its cache on PyTorch, and llama.cpp.

    python benchmarks/generation.py [--llama PYTHON]

Same random weights, same prompts, always the likeliest token. Each in float32 and in bfloat16, which here means: ours
with float32 between products of bfloat16 numbers, PyTorch's model converted to bfloat16, llama.cpp with bfloat16
weights; that of 8 bits a weight beside it. PyTorch with one thread and with as many as there are cores; llama.cpp with
the latter, in an interpreter PYTHON that has it (generation_llama.py).

They take turns. Medians and their ratios are printed, and how many tokens a text has in common with ours in float32
before the first that differs. A line is added to results.jsonl.

At batch 1 no token can take less time than fetching the weights from memory once. `--bound` measures by how much more
ours takes, in bfloat16.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import machine, record
from transformers import GPT2Config, GPT2LMHeadModel

from tinygrad_lm import kernels
from tinygrad_lm.engine.observe import no_grad
from tinygrad_lm.generation.generate import generate_batch
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores, parallel, workers
from tinygrad_lm.unchanged import Unchanged

CASES = {"batch 1": (1, 16), "batch 8": (8, 16), "first token after 512": (1, 512)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--case", choices=CASES, action="append", help="only this one")
    parser.add_argument("--bound", action="store_true", help="only that: our share of what the memory allows")
    parser.add_argument("--llama", metavar="PYTHON", help="an interpreter that has llama-cpp-python and gguf")
    args = parser.parse_args()
    kernels.enable()
    if args.bound:
        print(machine())
        share_of_bound(GPT(PRESETS["gpt2"], dtype="bfloat16"), 40 * args.rounds)
        return
    with ExitStack() as stack:
        contenders, model, half = everybody(args.llama, stack)
        print(f"{machine()}, PyTorch {torch.__version__}")
        print(agreement(model, half))
        for case in args.case or CASES:
            batch, length = CASES[case]
            n = 1 if "first" in case else args.tokens
            compare(case, contenders, batch, length, n, args.rounds)


def everybody(llama, stack):
    """{name: a function of prompts and n that returns seconds and texts}, and our two models."""
    model, peer = twins()
    half = GPT(model.config, dtype="bfloat16")
    half.flat.load(model.flat.arrays())
    contenders = {"ours, float32": partial(ours, model), "ours, bfloat16": partial(ours, half)}
    peers = {"float32": peer, "bfloat16": GPT2LMHeadModel(peer.config).eval()}
    peers["bfloat16"].load_state_dict(peer.state_dict())
    peers["bfloat16"].to(torch.bfloat16)
    for dtype, each in peers.items():
        for threads in sorted({1, cores()}):
            contenders[f"transformers, {dtype}, {threads} threads"] = partial(theirs, each, threads)
    if llama:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = Path(folder) / "weights.npz"
        weights = peer.state_dict().items()
        np.savez(path, **{name.removeprefix("transformer."): w.numpy() for name, w in weights})
        command = [llama, Path(__file__).with_name("generation_llama.py"), path]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(process.communicate)
        print("llama-cpp-python", json.loads(process.stdout.readline())["version"])
        for kind in ("float32", "bfloat16", "q8"):
            contenders[f"llama.cpp, {kind}"] = partial(asked, process, kind)
    return contenders, model, half


def compare(case, contenders, batch, length, n, rounds):
    """Let all of them write, in turns, and print what it took."""
    prompts = np.random.default_rng(batch).integers(0, 50257, (batch, length)).tolist()
    times, texts = {name: [] for name in contenders}, {}
    for turn in range(rounds + 1):
        for name, write in contenders.items():
            seconds, texts[name] = write(prompts, n)
            if turn:  # the first round warms up
                times[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"\n{case}: {batch} × {length} tokens in, {n} out")
    same = {name: common(texts["ours, float32"], found) for name, found in texts.items()}
    for name, seconds in medians.items():
        ratio = seconds / medians["ours, bfloat16"]
        print(
            f"  {name:34}{seconds:8.3f} s {batch * n / seconds:8.1f} tokens/s {ratio:6.2f} × our time in bfloat16"
            f"   {same[name]:.0%} of the text"
        )
    record("generation", case=case, batch=batch, prompt=length, tokens=n, seconds=times, same=same)


def share_of_bound(model, turns):
    """Print how much of a token's time fetching the rounded weights would take, for tokens 128 to 152 of a text.

    A virtual machine's bandwidth may change within seconds, by a factor of 1.7 where two of its cores have become the
    two threads of one. So it is measured before and after each turn, and turns between which it changed do not count.
    """
    weights, prompt, found = model.flat.data, list(range(128)), {}
    with Unchanged(weights):
        for _ in range(turns):
            before = bandwidth(weights, cores())
            came = [time.perf_counter() for _ in generate_batch(model, [prompt], 24, temperature=0)]
            after = bandwidth(weights, cores())
            if abs(after - before) < 0.1 * before:
                bound = 2 * weights.size / max(before, after)
                found.setdefault(int(max(before, after) / 1e10), []).append(bound / np.median(np.diff(came)))
    for tens, shares in sorted(found.items()):
        print(
            f"where all cores fetch {10 * tens} to {10 * tens + 10} GB/s: {statistics.median(shares):.3f} of the bound "
            f"({len(shares)} turns)"
        )
    record("generation", case="share of the bound", shares=found)


def common(texts, others):
    """The share of tokens before the first that differs, over all texts."""
    same = 0
    for text, other in zip(texts, others, strict=True):
        same += next((i for i, (a, b) in enumerate(zip(text, other, strict=True)) if a != b), len(text))
    return same / sum(map(len, texts))


def agreement(model, half):
    """How far the logits in bfloat16 are from those in float32, and how often the likeliest token is the same."""
    tokens = np.random.default_rng(0).integers(0, 50257, (1, 256))
    with no_grad():
        z, rounded = (each(tokens).numpy() for each in (model, half))
    equal = (z.argmax(-1) == rounded.argmax(-1)).mean()
    return (
        f"bfloat16: logits differ from float32's by {abs(z - rounded).max():.3f} at most, of a standard deviation of "
        f"{z.std():.2f}; the likeliest token is the same at {equal:.1%} of 256 places"
    )


def twins():
    """The same random weights in both."""
    peer = GPT2LMHeadModel(GPT2Config()).eval()
    model = GPT(PRESETS["gpt2"], seed=None)
    theirs = {name.removeprefix("transformer."): w.detach().numpy() for name, w in peer.state_dict().items()}
    for name, p in model.flat.items():
        path, _, kind = name.rpartition(".")
        block, _, letter = path.rpartition(".attn.c_")
        if letter in ("q", "k", "v"):
            p.data[...] = np.split(theirs[f"{block}.attn.c_attn.{kind}"], 3, -1)["qkv".index(letter)]
        else:
            p.data[...] = theirs[name]
    return model, peer


def ours(model, prompts, n):
    texts, began = [[] for _ in prompts], time.perf_counter()
    for row, token, *_ in generate_batch(model, prompts, n, temperature=0):
        texts[row].append(token)
    return time.perf_counter() - began, texts


def theirs(peer, threads, prompts, n):
    torch.set_num_threads(threads)
    began = time.perf_counter()
    with torch.no_grad():
        options = {"do_sample": False, "use_cache": True, "pad_token_id": 0, "eos_token_id": None}
        x = torch.tensor(prompts)
        out = peer.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=n, min_new_tokens=n, **options)
    return time.perf_counter() - began, out[:, len(prompts[0]) :].tolist()


def asked(process, kind, prompts, n):
    process.stdin.write(json.dumps({"kind": kind, "threads": cores(), "prompts": prompts, "n": n}) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return answer["seconds"], answer["texts"]


def bandwidth(data, n):
    """Bytes a second that n cores fetch together, each its part: the fastest of three scalar products."""
    parts, times = np.array_split(data, n), []
    with workers(n):
        for _ in range(3):
            began = time.perf_counter()
            parallel(lambda part: np.dot(part, part), parts)  # OpenBLAS asks the memory ahead, unlike NumPy's sums
            times.append(time.perf_counter() - began)
    return data.nbytes / min(times)


if __name__ == "__main__":
    main()
