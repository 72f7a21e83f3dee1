"""compute-sanitizer over each kernel at small sizes: wild addresses, races, reads of memory that was never written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1]
TOOLS = {"memcheck": [], "racecheck": [], "initcheck": [], "synccheck": []}
SECONDS = 150


def items(place):
    for tool in TOOLS:
        yield tool, lambda tool=tool: under(tool, place.tiny)


def under(tool, tiny):
    program = [sys.executable, str(BENCHMARKS / "gpu_once.py")]
    if tiny:
        command = [*program, "--rehearse"]
    else:
        found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        command = [found, "--tool", tool, "--print-limit", "30", "--error-exitcode", "9", *program]
    environment = os.environ | {"PYTHONPATH": f"{BENCHMARKS.parent}:{os.environ.get('PYTHONPATH', '')}"}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        status, output = ended.returncode, ended.stdout + ended.stderr
    except subprocess.TimeoutExpired as error:
        status, output = f"stopped after {SECONDS} s", (error.stdout or b"").decode(errors="replace")
    kinds = re.findall(r"^========= (.+)", output, re.M)
    result = {"summary": (re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", output) or ["none"])[-1],
              "kernels ran": output.count("ran: "), "first": kinds[1:7], "output": output[-20_000:]}  # fmt: skip
    return result if status == 0 else {"error": f"{tool}: status {status}: {result['summary']}", **result}
