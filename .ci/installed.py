"""Build the source distribution, from it the wheel, install that, and run each command far from any clone.

python .ci/installed.py                                # with this Python and the libraries that it has
python .ci/installed.py python3.11 python3.13          # with these, and only what the wheel asks for
python .ci/installed.py --sdist-tests                  # besides, with this Python, two test files of the sdist

Ends with a line for each Python: which commands ran, and of which the --help alone.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = "ROMEO: But soft, what light through yonder window breaks?\nJULIET: O Romeo, wherefore art thou Romeo?\n" * 60
CHATS = [{"prompt": f"Hi {i}", "completion": "Ho"} for i in range(64)]
PAIRS = [{"prompt": f"Hi {i}", "chosen": "Ho", "rejected": "No"} for i in range(64)]
PROMPTS = [{"prompt": f"Hi {i}", "answer": "Ho", "verifier": "equal"} for i in range(64)]
MIXTURE = (
    'tokenizer = "mine.tiktoken"\nvalidation = 0.1\n[[source]]\nname = "lines"\nweight = 1\nfiles = ["lines.jsonl"]\n'
)
TINY = "--preset modern-tiny --steps 2 --batch-size 1"
ONE = "--steps 1 --batch-size 2"
# (command line, what it must print); all but the first are in the order in which they build upon each other.
LINES = [
    ("--version", r"tinygrad-lm \d"),
    ("", r"\n  train  +\w"),
    (f"train {TINY} --data text.txt --tokenizer byte --out run", "write more:  tinygrad-lm generate run"),
    ("train --resume run --steps 3", "train on:    tinygrad-lm train --resume run"),
    ("generate run --tokens 3", "."),
    ("evaluate run --tasks text=text.txt", "text"),
    ("doctor run", "."),
    ("learn cost run", "."),
    (f"finetune --model run --data text.txt {ONE} --out tuned", "tinygrad-lm finetune --resume tuned"),
    (f"finetune-chat run --data chats.jsonl {ONE} --out chat", "talk to it:  tinygrad-lm chat chat"),
    ("chat chat --tokens 3", "you>"),
    (f"prefer chat --data pairs.jsonl {ONE} --out preferred", "tinygrad-lm prefer --resume preferred"),
    (
        "reinforce chat --data prompts.jsonl --steps 1 --batch-size 8 --limit 3 --out reinforced",
        "tinygrad-lm reinforce --resume",
    ),
    ("export chat exported", "wrote exported"),
    ("data train-tokenizer text.txt --vocab-size 270 --out mine.tiktoken", "."),
    ("prepare mixture.toml", "inspect"),
    (f"pretrain mixture {TINY} --out mixed", "tinygrad-lm pretrain --resume mixed"),
]
PROOF = "check-gradients --cases 1"  # needs Hypothesis, which is an extra
HELP_ALONE = ["assistant", "distributed"]  # a quarter of an hour; an MPI


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", default=[sys.executable])
    parser.add_argument("--sdist-tests", action="store_true", help="run tests of the unpacked source distribution")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would the server
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source, wheel = build(folder)
        if args.sdist_tests:
            tests = [sys.executable, "-m", "pytest", "-q", "tests/test_imports.py", "tests/test_backend.py"]
            subprocess.run(tests, cwd=source, env=os.environ | {"PYTHONPATH": str(source)}, check=True)
        covered = [check(python, wheel, folder / f"python-{i}") for i, python in enumerate(args.pythons)]
    print(*covered, sep="\n")


def build(folder):
    """(the unpacked source distribution, the wheel that was built from it)"""
    bin = environment(sys.executable, folder / "builder")
    quietly(bin / "python", "-m", "pip", "install", "hatchling>=1.27")
    hook = "import sys, hatchling.build as b; getattr(b, sys.argv[1])(sys.argv[2])"
    quietly(bin / "python", "-c", hook, "build_sdist", folder, cwd=ROOT)
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    source = folder / packed.name.removesuffix(".tar.gz")
    quietly(bin / "python", "-c", hook, "build_wheel", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    return source, wheel


def check(python, wheel, folder):
    """Install the wheel for a Python and run the commands. Returns a line that says what was covered."""
    start = time.perf_counter()
    bin = environment(python, folder / "venv")
    if python == sys.executable:
        (next(bin.parent.glob("lib/*/site-packages")) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
        quietly(bin / "python", "-m", "pip", "install", "--no-deps", wheel)
    else:
        quietly(bin / "python", "-m", "pip", "install", wheel)
    version = quietly(bin / "python", "--version").strip()
    here = folder / "empty"
    here.mkdir()
    (here / "text.txt").write_text(TEXT)
    (here / "mixture.toml").write_text(MIXTURE)
    records = {
        "chats": CHATS,
        "pairs": PAIRS,
        "prompts": PROMPTS,
        "lines": [{"text": f"{i} {TEXT}"} for i in range(40)],
    }
    for name, lines in records.items():
        (here / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = bin / "tinygrad-lm"
    for line, expected in LINES:
        told = quietly(command, *line.split(), cwd=here, given="Hi\n", statuses=(0, 1) if "doctor" in line else (0,))
        if not re.search(expected, told):
            raise SystemExit(f"{version}: tinygrad-lm {line} printed no {expected!r}:\n{told}")
    serve(command, here)
    if python != sys.executable:
        assert "tinygrad-lm[test]" in quietly(command, *PROOF.split(), cwd=here, statuses=(2,))
        quietly(bin / "python", "-m", "pip", "install", "hypothesis")
    assert "softmax" in quietly(command, *PROOF.split(), cwd=here)
    names = {line.split()[0] for line, _ in [*LINES, (PROOF, "")] if line and line[0] != "-"} | {"serve"}
    known = re.findall(r"^  ([\w-]+)  ", quietly(command, cwd=here), re.MULTILINE)
    if missing := set(known) - names - set(HELP_ALONE):
        raise SystemExit(f"no line here runs {', '.join(sorted(missing))}")
    for name in HELP_ALONE:
        quietly(command, name, "--help", cwd=here)
    took = time.perf_counter() - start
    ran = " ".join(name for name in known if name in names)
    return f"{version}, {took:.0f} s: ran {ran}; --help alone of {' '.join(HELP_ALONE)}"


def serve(command, here):
    """Start the server, fetch its page, and end it as Ctrl-C does."""
    server = subprocess.Popen([command, "serve", "chat", "--port", "0"], cwd=here, env=clean(), stdout=subprocess.PIPE,
                              text=True)  # fmt: skip
    try:
        url = next(found[0] for line in server.stdout if (found := re.search(r"http://[\w.:]+", line)))
        assert b"<html" in urllib.request.urlopen(url, timeout=30).read()
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0, server.returncode
    finally:
        server.kill()


def environment(python, folder):
    """A new virtual environment. Returns the folder of its programs."""
    quietly(python, "-m", "venv", folder)
    return folder / "bin"


def clean():
    """The environment variables without those that would lead to the clone."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def quietly(*command, cwd=None, given="", statuses=(0,)):
    """Run a command. Returns what it printed; if it fails, ends with all of it."""
    command = [str(word) for word in command]
    done = subprocess.run(command, cwd=cwd, env=clean(), input=given, capture_output=True, text=True, timeout=600)
    if done.returncode not in statuses:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
