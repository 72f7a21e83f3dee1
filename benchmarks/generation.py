"""Speed of generation at GPT-2's 124M shape, ours against transformers with its cache on PyTorch, side by side.

    python benchmarks/generation.py

Same random weights, same prompts, float32, always the likeliest token, so both write the same texts. They take turns;
medians and their ratios are printed beside the time that fetching the weights from memory once a token takes, below
which none can be. A line is added to results.jsonl.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch
from common import machine, record
from transformers import GPT2Config, GPT2LMHeadModel

from tinygrad_lm import kernels
from tinygrad_lm.generation.generate import generate_batch
from tinygrad_lm.models.config import PRESETS
from tinygrad_lm.models.gpt import GPT
from tinygrad_lm.threads import cores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    kernels.enable()
    model, peer = twins()
    floor = model.flat.data.nbytes / bandwidth(model.flat.data)
    print(f"{machine()}, PyTorch {torch.__version__}")
    print(f"fetching the weights once with one core: {floor * 1e3:.1f} ms, {1 / floor:.0f} tokens/s at batch 1")
    for batch, length, n in ((1, 16, args.tokens), (8, 16, args.tokens), (1, 512, 1)):
        prompts = np.random.default_rng(batch).integers(0, 50257, (batch, length)).tolist()
        contenders = {
            "tinygrad_lm": partial(ours, model, prompts, n),
            "transformers": partial(theirs, peer, prompts, n),
        }
        times, texts = {name: [] for name in contenders}, {}
        for turn in range(args.rounds + 1):
            for name, write in contenders.items():
                began = time.perf_counter()
                texts[name] = write()
                if turn:  # the first round warms up
                    times[name].append(time.perf_counter() - began)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        print(
            f"\n{batch} × {length} tokens in, {n} out; texts {'equal' if len(set(texts.values())) == 1 else 'DIFFER'}"
        )
        for name, seconds in medians.items():
            ratio = seconds / medians["tinygrad_lm"]
            print(f"  {name:14}{seconds:8.3f} s {batch * n / seconds:8.1f} tokens/s {ratio:6.2f} × our time")
        record("generation", batch=batch, prompt=length, tokens=n, seconds=medians, floor=floor)


def twins():
    """The same random weights in both."""
    peer = GPT2LMHeadModel(
        GPT2Config(),
    ).eval()
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
    texts = [[] for _ in prompts]
    for row, token, *_ in generate_batch(model, prompts, n, temperature=0):
        texts[row].append(token)
    return tuple(map(tuple, texts))


def theirs(peer, prompts, n):
    with torch.no_grad():
        options = {"do_sample": False, "use_cache": True, "pad_token_id": 0, "eos_token_id": None}
        x = torch.tensor(prompts)
        out = peer.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=n, min_new_tokens=n, **options)
    return tuple(map(tuple, out[:, len(prompts[0]) :].tolist()))


def bandwidth(data):
    """Bytes a second that one core fetches: the fastest of five sums."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        np.add.reduce(data.view(np.int64))  # nothing to compute but what must be read
        times.append(time.perf_counter() - began)
    return data.nbytes / min(times)


if __name__ == "__main__":
    main()
