"""Preparing generated text, beside bare tiktoken on the same cores; killed again and again, to the same bytes (Linux).

    python benchmarks/prepare.py --megabytes 1000 --kills 10

The text is JSON lines: words drawn by Zipf's law, in documents of many lengths. The words are GPT-2's own and pairs of
them, so that there are about as many bytes to a token as in English. Bare tiktoken gets the texts of the first
megabytes in memory, so neither reading, nor JSON, nor writing is in its time: once on threads (its own
encode_ordinary_batch), once in processes.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from common import machine, record

from tinygrad_lm.data.tokenizers.tokenizer import GPT2Tokenizer
from tinygrad_lm.threads import cores

MIXTURE = """tokenizer = "gpt2"
validation = 0.01
[clean]
deduplicate = "{deduplicate}"
[[source]]
name = "generated"
weight = 1
files = ["*.jsonl"]
"""
PIECE = 200_000  # words drawn at once
FILE = 2**28  # bytes
BARE = 64  # megabytes that tiktoken alone is measured on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--kills", type=int, default=0, help="random moments at which a second preparation is killed")
    parser.add_argument("--deduplicate", choices=["none", "exact", "fuzzy"], default="exact")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        folder = Path(folder)
        size = generate(folder, args.megabytes * 10**6)
        (folder / "mix.toml").write_text(MIXTURE.format(deduplicate=args.deduplicate))
        print(f"{machine()}\n{size / 1e6:,.0f} MB of JSON lines, {args.workers} workers")
        results = bare(folder, args.workers)
        seconds, peak = measured(folder, "whole", args.workers)
        results["prepare"] = size / 1e6 / seconds
        for name, speed in results.items():
            print(f"{name:28}{speed:8.1f} MB/s")
        print(f"{'all processes together':28}{peak / 2**20:8.0f} MiB at the most")
        record("prepare", megabytes=args.megabytes, workers=args.workers, speeds=results, peak=peak)
        if args.kills:
            killed(folder, args.kills, args.workers, seconds)


def generate(folder, size):
    """JSON lines in files of at most FILE bytes. Returns their size together."""
    rng = np.random.default_rng(0)
    pieces = [piece[1:].decode() for piece in GPT2Tokenizer().vocabulary if re.fullmatch(rb" [a-z]{1,12}", piece)]
    pairs = ["".join(pair) for pair in rng.choice(pieces, (len(pieces), 2)).tolist()]
    words = np.array([word for both in zip(pieces, pairs, strict=True) for word in both])
    shares = np.cumsum(1 / (np.arange(len(words)) + 2.7))  # Zipf and Mandelbrot's law
    written = number = 0
    while written < size:
        with open(folder / f"{number:04}.jsonl", "w") as file:
            while written < size and file.tell() < FILE:
                drawn = words[np.searchsorted(shares, rng.random(PIECE) * shares[-1])].tolist()
                while drawn:
                    count = int(rng.lognormal(5.5, 1)) + 1
                    text = " ".join(drawn[:count])
                    drawn = drawn[count:]
                    line = json.dumps({"text": text.replace(" to ", ", ").replace(" in ", ".\n").capitalize()}) + "\n"
                    written += file.write(line)
        number += 1
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))


def bare(folder, workers):
    """{what: MB/s} of tiktoken alone."""
    texts, size = [], 0
    for line in open(folder / "0000.jsonl", "rb"):  # noqa: SIM115
        texts.append(json.loads(line)["text"])
        size += len(line)
        if size > BARE * 10**6:
            break
    tokenizer = GPT2Tokenizer()
    began = time.perf_counter()
    tokenizer._bpe.encode_ordinary_batch(texts, num_threads=workers)
    speeds = {f"tiktoken, {workers} threads": size / 1e6 / (time.perf_counter() - began)}
    shares = [texts[i::workers] for i in range(workers)]
    with ProcessPoolExecutor(workers) as executor:
        list(executor.map(encode, [texts[:1]] * workers))
        began = time.perf_counter()
        list(executor.map(encode, shares))
        speeds[f"tiktoken, {workers} processes"] = size / 1e6 / (time.perf_counter() - began)
    return speeds


def encode(texts, made=[]):  # noqa: B006
    """The number of tokens of texts, for nothing more is sent back."""
    if not made:
        made.append(GPT2Tokenizer()._bpe)
    return sum(len(made[0].encode_to_numpy(text, disallowed_special=())) for text in texts)


def started(folder, out, workers, **options):
    command = [sys.executable, "-m", "tinygrad_lm.data", "prepare", folder / "mix.toml", "--out", folder / out]
    return subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.DEVNULL, **options)


def measured(folder, out, workers):
    """(seconds, the most bytes that the process and its workers held together)"""
    began, peak = time.perf_counter(), 0
    process = started(folder, out, workers)
    while process.poll() is None:
        peak = max(peak, sum(map(resident, [process.pid, *children(process.pid)])))
        time.sleep(0.05)
    assert process.returncode == 0
    return time.perf_counter() - began, peak


def children(pid):
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def resident(pid):
    """Memory that is its own, and its part of what is shared."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def killed(folder, kills, workers, seconds):
    """Prepare again, killed at random moments. Python's own word on each death is not shown."""
    rng, done = np.random.default_rng(), 0
    for _ in range(kills):
        process = started(folder, "killed", workers, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.3, 1.5 * seconds / kills))
        except subprocess.TimeoutExpired:
            done += 1
        process.kill()
        process.wait()
    assert started(folder, "killed", workers).wait() == 0
    whole, again = contents(folder / "whole"), contents(folder / "killed")
    print(f"killed {done} times and taken up again: {len(whole)} files are {'' if whole == again else 'NOT '}the same")
    assert whole == again


def contents(folder):
    """{path: sha256} of all files below."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


if __name__ == "__main__":
    main()
