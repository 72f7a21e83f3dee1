"""The tests marked gpu: every kernel and every operation on drawn cases."""

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
SECONDS = 200


def items(place):
    if place.tiny:  # a test that needs no GPU, and one that fails
        yield "a file of tests", lambda: suite(["tests/test_files.py"], "not gpu", "0")
        return
    texts = {path: path.read_text() for path in sorted(ROOT.glob("tests/**/test_*.py"))}
    files = [str(path.relative_to(ROOT)) for path, text in texts.items() if "mark.gpu" in text]
    yield "pytest -m gpu", lambda: suite(files, "gpu", "8")


def suite(files, mark, processes):
    """Counts, and the failures by name; each of the first is run once more alone, since one can spoil the next."""
    found = pytest([*files, "-m", mark, "-n", processes, "-W", "default"], SECONDS)  # other libraries' ages may warn
    alone = {name: pytest([name, "-m", mark, "-n", "0"], 20) for name in found["failed"][:4]}
    found["alone"] = {name: "passes" if again["status"] == 0 else "fails" for name, again in alone.items()}
    if found["status"] == 0:
        return found
    return {"error": f"pytest ended with {found['status']}: {found['summary']}; {', '.join(found['failed'])}", **found}


def pytest(arguments, seconds):
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder, "results.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={xml}",
            *arguments,
        ]
        command += ["--timeout=120"] if find_spec("pytest_timeout") else []
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        try:
            ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
            status, output = ended.returncode, ended.stdout + ended.stderr
        except subprocess.TimeoutExpired as error:
            status, output = f"no end after {seconds} s", (error.stdout or b"").decode(errors="replace")
        failed = failures(xml) if xml.exists() else re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.M)
    lines = [line for line in output.strip().splitlines() if line] or ["no output"]
    return {"status": status, "summary": lines[-1], "failed": failed, "output": output[-20_000:]}


def failures(xml):
    """The names that pytest takes, of the tests that failed."""
    names = []
    for case in ElementTree.parse(xml).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            names.append(f"{case.get('file')}::{case.get('name')}")
    return names
