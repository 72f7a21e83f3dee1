"""Time and memory of learning byte pair encoding, ours beside Hugging Face's `tokenizers`, which is Rust.

    python benchmarks/bpe.py

First 1,024 merges of tiny Shakespeare: they take turns, and medians are compared. Then as many of generated text of one
to a hundred million characters, which comes in pieces of a million and is nowhere as a whole: each in a process of its
own, so that the growth of its resident set is its memory (Linux only). The time that the text itself takes is left out.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from itertools import islice, product
from pathlib import Path

import numpy as np
import tokenizers
from common import machine, record, status
from tokenizers import models, pre_tokenizers, trainers

from tinygrad_lm.data.corpus import load_corpus
from tinygrad_lm.data.tokenizers.bpe import count_words, learn_merges
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import byte_letters

MERGES = 1024
MILLIONS = [1, 3, 10, 30, 100]
SYLLABLES = ["".join(letters) for letters in product("bcdfglmnprst", "aeiou", ["", "n", "r"])]
ENDS = [" "] * 12 + [", ", ". ", "; ", ".\n"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--measure", nargs=2, metavar=("CONTENDER", "MILLIONS"), help="one of them, in this process")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], int(args.measure[1]))))
        return
    print(f"{machine()}; tokenizers {tokenizers.__version__}")
    compare(load_corpus().text, args.rounds)
    print(f"\n{'':14}{'characters':>12}{'seconds':>9}{'MB/s':>7}{'MiB':>7}   (ours: words, counting, merging)")
    for contender in CONTENDERS:
        found = [(size, run(contender, size)) for size in MILLIONS]
        for size, result in found:
            more = "{words:,}, {counting:.2f}, {merging:.2f}".format_map(result) if "words" in result else ""
            speed, memory = size / result["seconds"], result["bytes"] / 2**20
            print(f"{contender:14}{size * 10**6:12,}{result['seconds']:9.2f}{speed:7.1f}{memory:7.0f}   {more}")
            record("bpe", contender=contender, millions=size, **result)
        (small, first), (large, last) = found[1], found[-1]
        power = math.log(last["seconds"] / first["seconds"]) / math.log(large / small)
        print(f"{'':14}from {small} to {large} million: time grows as the text's length to the power {power:.2f}")


def compare(text, rounds):
    times = {name: [] for name in CONTENDERS}
    for turn in range(rounds + 1):
        merges = []
        for name, train in CONTENDERS.items():
            began = time.perf_counter()
            merges.append(train([text]))
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - began)
        assert merges[0] == merges[1]
    mine, rust = (statistics.median(seconds) for seconds in times.values())
    print(f"{MERGES:,} merges of tiny Shakespeare, the same: {mine:.3f} s, tokenizers {rust:.3f} s")
    print(f"we take {mine / rust:.2f} of its time")
    record("bpe", text="tiny Shakespeare", merges=MERGES, seconds=times)


def ours(texts):
    return list(islice(learn_merges(count_words(texts)), MERGES))


def theirs(texts):
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(texts, trainer)
    byte = {letter: bytes([b]) for b, letter in byte_letters().items()}
    merges = json.loads(library.to_str())["model"]["merges"]
    return [tuple(b"".join(byte[letter] for letter in half) for half in pair) for pair in merges]


CONTENDERS = {"tinygrad_lm": ours, "tokenizers": theirs}


def run(contender, size):
    command = [sys.executable, __file__, "--measure", contender, str(size)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure(contender, size):
    """{"seconds", "bytes"} of learning from so many million characters; of ours also what the time goes to."""
    CONTENDERS[contender](["loads what it needs"])
    before, waited = status("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the highest point so far is forgotten
    stream = timed(texts(size * 10**6), waited)
    began = time.perf_counter()
    if contender == "tokenizers":
        theirs(stream)
        return {"seconds": time.perf_counter() - began - sum(waited), "bytes": status("VmHWM") - before}
    counts = count_words(stream)
    counting, began = time.perf_counter() - began - sum(waited), time.perf_counter()
    list(islice(learn_merges(counts), MERGES))
    merging = time.perf_counter() - began
    parts = {"words": len(counts), "counting": counting, "merging": merging}
    return {"seconds": counting + merging, "bytes": status("VmHWM") - before} | parts


def texts(characters, seed=0):
    """A text in pieces of about a million characters, with as many different words as a natural one.

    Word number r (0, 1, ...) has a probability of about 1 / (r + 20)^1.6, Zipf's law with Mandelbrot's shift, and there
    is no last one. So the number of different words in a text of n words grows as n^(1/1.6) (Heaps' law); 230,000 in a
    hundred million characters. A word is its number, written with syllables for digits: the frequent ones are short.
    """
    rng = np.random.default_rng(seed)
    while characters > 0:
        size = 180_000
        numbers = np.minimum(20 * (rng.random(size) ** (-1 / 0.6) - 1), 1e15).astype(np.int64)
        distinct, places = np.unique(numbers, return_inverse=True)
        words = [spell(int(number)) for number in distinct]
        ends = rng.integers(0, len(ENDS), size)
        text = "".join([words[i] + ENDS[j] for i, j in zip(places.tolist(), ends.tolist(), strict=True)])[:characters]
        characters -= len(text)
        yield text


def spell(number):
    word = ""
    while number or not word:
        number, digit = divmod(number, len(SYLLABLES))
        word = SYLLABLES[digit] + word
    return word


def timed(texts, waited):
    """The texts; the seconds that each took to come are added to `waited`."""
    while True:
        began = time.perf_counter()
        text = next(texts, None)
        waited.append(time.perf_counter() - began)
        if text is None:
            return
        yield text


if __name__ == "__main__":
    main()
