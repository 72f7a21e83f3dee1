"""gpu_check.py itself: each part in a process of its own, and what one of them does, the others survive."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_lm.kernels.cuda import driver

pytest.importorskip("ml_dtypes")
import gpu_check
from gpu import report

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys, time, types
sys.path += [{benchmarks!r}, {root!r}]
from contextlib import nullcontext
import gpu_check


class Place:
    lost = False
    def synchronize(self):
        if Place.lost:
            raise RuntimeError("the device is lost")
    def release(self): pass

def fault(): raise ValueError("a fault")
def lose():
    Place.lost = True
    raise ValueError("illegal address")
def after():
    Place().synchronize()
    return {{"found": "this"}}
place = Place()
def part(**functions): return types.SimpleNamespace(items=lambda place: iter(functions.items()))

def cannot(place): raise ImportError("no such library")

sys.modules["gpu.one"] = part(right=lambda: {{"us": 1.5}}, fault=fault, dies=lambda: os.kill(os.getpid(), 9),
                              lost=lose, after=after, data=lambda: {{"path": str(place.data)}})
sys.modules["gpu.two"] = types.SimpleNamespace(items=cannot)
sys.modules["gpu.three"] = part(hangs=lambda: time.sleep(1000), after=lambda: {{"never": 1}})
sys.modules["gpu.four"] = part(right=lambda: {{"ms": 2.5}})
gpu_check.PARTS = {{"one": ("", 1, 1), "two": ("", 1, 1), "three": ("", 1, 0.1), "four": ("", 1, 1)}}
gpu_check.resolve_device = lambda device: None
gpu_check.open_place = lambda rehearse: nullcontext(place)
sys.exit(gpu_check.main())
"""


@pytest.mark.slow
def test_what_one_part_does_the_others_survive(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(benchmarks=str(ROOT / "benchmarks"), root=str(ROOT)))
    # The parts run where the repository is; their files shall not.
    text = program.read_text().replace("sys.exit(", f"gpu_check.ROOT = {str(tmp_path)!r}\nsys.exit(")
    program.write_text(text)
    command = [sys.executable, "program.py", "--out", "out.jsonl", "--data", "text"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    found = {(r["part"], r["item"]): r for r in report.read(tmp_path / "out.jsonl")}
    assert found["one", "right"]["us"] == 1.5
    assert found["one", "fault"]["error"] == "ValueError: a fault"
    assert 'raise ValueError("a fault")' in found["one", "fault"]["trace"]
    assert found["one", "dies"]["error"] == "its process ended: -9"
    assert found["one", "lost"]["error"] == "ValueError: illegal address"
    assert found["one", "after"]["found"] == "this"
    assert found["one", "data"]["path"] == str(tmp_path / "text")
    assert "ended: 1" in found["two", "the rest"]["error"]
    assert "stopped after" in found["three", "hangs"]["error"]
    assert "time is up" in found["three", "the rest"]["error"]
    assert found["four", "right"]["ms"] == 2.5
    assert len(found) == 10
    assert ended.returncode == 1
    assert "failed: one: dies" in ended.stdout
    assert "10 findings, 6 failures" in ended.stdout


def test_lists_and_tables(tmp_path, capsys):
    assert gpu_check.main(["--list"]) == 0
    assert all(name in capsys.readouterr().out for name in ("kernels",))
    out = tmp_path / "found.jsonl"
    out.write_text(json.dumps({"part": "copy", "item": "large", "GB/s": 4300.0}) + '\n{"part": "co')
    assert gpu_check.main(["--table", "--out", str(out)]) == 0
    assert "4,300" in capsys.readouterr().out


def test_unknown_parts(capsys):
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--parts", "kernels,nothing"])
    assert ended.value.code == 2
    assert "unknown parts nothing" in capsys.readouterr().err


def test_every_part_has_its_module():
    assert all((ROOT / "benchmarks" / "gpu" / f"{name}.py").is_file() for name in gpu_check.PARTS)


def test_without_a_gpu(tmp_path, capsys):

    if driver.gpu_problem() is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--out", str(tmp_path / "found.jsonl")])
    assert ended.value.code == 2
    assert "error: device cuda" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
