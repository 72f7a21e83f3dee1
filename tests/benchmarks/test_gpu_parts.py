"""Every part of gpu_check.py from its first line to its last, on the emulator at tiny sizes; and that it can fail."""

import contextlib
import types

import numpy as np
import pytest

pytest.importorskip("ml_dtypes")
pytest.importorskip("torch")
import gpu_once
from gpu import batches, contenders, environment, goal, kernels, place, products, profile, report, sanitize, steps
from slow import slow_but

from gpu import curves, tests  # isort: skip

from tinygrad_lm import ops
from tinygrad_lm.models.config import PRESETS

PARTS = {module.__name__: module for module in (environment, kernels, products, steps, batches, curves, profile, goal)}


@pytest.fixture
def rehearsed():
    with place.rehearsal() as here:
        here.data = None
        yield here


@pytest.mark.parametrize("part", slow_but(PARTS, "gpu.environment", "gpu.products"))
def test_a_part_runs_to_its_end(rehearsed, part, monkeypatch):
    monkeypatch.setattr(batches, "SIZES", (64,))
    names = set()
    for name, function in PARTS[part].items(rehearsed):
        found = function()
        assert "error" not in found, f"{name}: {found['error']}"
        assert report.line({"part": part, "item": name, **found})
        assert name not in names
        names.add(name)


@pytest.mark.slow
def test_all_kernels_are_run_once(capsys):
    gpu_once.main(["--rehearse"])
    ran = capsys.readouterr().out
    assert all(
        f"ran: {name}" in ran for name in ("layer_norm float32", "attention, heads of 64 bfloat16", "columns", "adamw")
    )


def wrong(y, backward):
    return y * 1.001, backward


def left_out(y, backward):
    y._array.reshape(-1)[-1:] = np.nan
    return y, backward


def changing(y, backward):
    changing.calls += 1
    return y * np.float32(1 + 1e-6 * changing.calls), backward


@pytest.mark.parametrize(
    ("fault", "message"), [(wrong, "off by"), (left_out, "off by [nan]"), (changing, "other bits the second time")]
)
def test_a_faulty_kernel_is_noticed(rehearsed, fault, message, monkeypatch):
    right, changing.calls = ops.silu.implementations["cuda", "float32"], 0
    monkeypatch.setitem(ops.silu.implementations, ("cuda", "float32"), lambda x: fault(*right(x)))
    functions = dict(kernels.items(rehearsed))
    assert message in functions["silu float32"]()["error"]
    assert "error" not in functions["relu float32"]()


def test_a_kernel_without_a_case_is_noticed(rehearsed, monkeypatch):
    monkeypatch.setitem(ops.exp.implementations, ("cuda", "bfloat16"), ops.exp.rule)
    assert "no case" in dict(kernels.items(rehearsed))["exp"]()["error"]


def test_losses_that_differ_are_noticed():
    assert "error" not in curves.compared([4.0, 3.0], [4.0001, 3.0], 1e-3)
    assert "off by" in curves.compared([4.0, 3.0], [4.1, 3.0], 1e-3)["error"]
    assert "off by" in curves.compared([4.0, float("nan")], [4.0, 3.0], 1e-3)["error"]


def test_who_fails_leaves_the_race_and_the_others_go_on(rehearsed):
    task = contenders.Task(rehearsed, "nanogpt-cpu", 12)

    class Dies(contenders.Theirs):
        def run(self, first, count):
            if first:
                raise RuntimeError("out of memory")
            return super().run(first, count)

    def cannot(task):
        raise ValueError("no such thing")

    found = contenders.race(task, {"theirs": contenders.Theirs, "dies": Dies, "cannot": cannot})
    assert found["theirs"]["ms"] > 0
    assert "out of memory" in found["dies"]["error"]
    assert "no such thing" in found["cannot"]["error"]
    both = steps.merged({"ours": found["dies"], "theirs": found["theirs"]})
    assert both["error"].startswith("ours: RuntimeError")
    assert both["their ms"] > 0


@pytest.mark.slow
def test_both_train_on_the_same_from_the_same(rehearsed):
    """Without dropout and in float32 the losses are the same but for rounding."""
    task = contenders.Task(rehearsed, "nanogpt-cpu", 12)
    ours, theirs = contenders.Ours(task, "float32"), contenders.Theirs(task, bf16=False)
    theirs.prepare(0, 5)
    np.testing.assert_allclose(ours.run(0, 5), theirs.run(0, 5), rtol=1e-5)


@pytest.mark.slow
def test_memory_of_both_libraries_is_counted(rehearsed, monkeypatch):
    """PyTorch's peak less what others have, and CuPy's."""
    told = {"init": None, "reset_peak_memory_stats": None, "memory_allocated": 10**9, "max_memory_allocated": 4 * 10**9}
    for name, value in told.items():
        monkeypatch.setattr(contenders.import_module("torch").cuda, name, lambda value=value: value)
    taken, most = iter([10**9, 7 * 10**9]), types.SimpleNamespace(most=2 * 10**9)
    monkeypatch.setattr(rehearsed, "torch", "cuda", raising=False)
    monkeypatch.setattr(rehearsed, "taken", lambda: next(taken), raising=False)
    monkeypatch.setattr(rehearsed, "watched", lambda: contextlib.nullcontext(most), raising=False)
    found, _ = contenders.started(contenders.Task(rehearsed, "nanogpt-cpu", 12), contenders.Ours, 2)
    assert (found["GB"], found["GB taken"]) == (5.0, 6.0)


def test_time_by_pytorchs_events(monkeypatch):
    clock = iter([7e-3] * 3 + [2.0, 9.0, 4.0])
    event = lambda enable_timing: types.SimpleNamespace(
        record=lambda: None, synchronize=lambda: None, elapsed_time=lambda stop: next(clock)
    )
    monkeypatch.setattr(environment.import_module("torch").cuda, "Event", event)
    assert environment.torch_seconds(types.SimpleNamespace(tiny=False), lambda: None, repeats=3) == 4e-3


def test_the_arithmetic_of_a_token():
    big = types.SimpleNamespace(tiny=False)
    assert contenders.Task(big, "gpt2", 4).flops / 4096 == pytest.approx(855e6, rel=1e-3)
    frequent = np.bincount(contenders.text(64, 10**5), minlength=64)
    assert len(frequent) == 64
    assert frequent[0] > 5 * frequent[9] > 0


@pytest.mark.slow
def test_operations_are_timed_forth_and_back(rehearsed):
    found = profile.by_operation(rehearsed, contenders.Task(rehearsed, "gpt2", 2))
    names = {row["name"] for row in found["rows"]}
    assert {"linear", "linear back", "attention", "attention back", "embedding back"} <= names


def test_what_a_trace_says():
    events = [{"cat": "kernel", "name": "a", "dur": 3.0}, {"cat": "cpu_op", "name": "b", "dur": 9.0},
              {"cat": "kernel", "name": "a", "dur": 5.0}, {"cat": "gpu_memcpy", "name": "copy", "dur": 2.0},
              {"name": "no category"}]  # fmt: skip
    found = profile.summed(profile.kernels_of(events), steps=2)
    assert (found["us a step"], found["kinds"]) == (5.0, 2)
    assert found["rows"][0] == {"name": "a", "calls": 1.0, "us": 4.0, "share": 0.8}


def test_when_no_kernel_ran():
    """Of kernels from 1 to 5, 3 to 4 and 7 to 9, the two between 5 and 7."""
    events = [{"cat": "kernel", "ts": start, "dur": took} for start, took in ((7.0, 2.0), (1.0, 4.0), (3.0, 1.0))]
    assert profile.idle([*events, {"cat": "cpu_op", "ts": 5.0, "dur": 2.0}]) == 2.0


@pytest.mark.slow
def test_failed_tests_are_listed_and_run_again_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tests, "ROOT", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: x")
    head = "import os, pytest\npytestmark = pytest.mark.gpu\nlog = 'log'\n"
    (tmp_path / "test_it.py").write_text(
        head + "def test_right(): pass\n@pytest.mark.parametrize('x', [1, 2])\ndef test_wrong(x): assert x == 1\n"
        "def test_spoilt():\n    assert os.path.exists(log) or open(log, 'w').close()\n"
    )
    found = tests.suite(["test_it.py"], "gpu", "0")
    assert found["failed"] == ["test_it.py::test_wrong[2]", "test_it.py::test_spoilt"]
    assert found["alone"] == {"test_it.py::test_wrong[2]": "fails", "test_it.py::test_spoilt": "passes"}
    assert "pytest ended with 1" in found["error"]


def test_compute_sanitizer_is_believed(tmp_path, monkeypatch):
    tool = tmp_path / "compute-sanitizer"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for lines, wanted in (
        (["ERROR SUMMARY: 0 errors"], None),
        (["Invalid write", "ERROR SUMMARY: 1 error"], "1 error"),
    ):
        status = 9 if wanted else 0
        tool.write_text("#!/bin/sh\n" + "".join(f"echo '========= {text}'\n" for text in lines) + f"exit {status}\n")
        tool.chmod(0o755)
        found = sanitize.under("memcheck", tiny=False)
        assert ("error" in found) == bool(wanted)
        assert found["summary"] == lines[-1]


def test_the_answers():
    found = [{"part": "steps", "item": "gpt2, eager", "their time / ours": 1.75},
             {"part": "batches", "item": "ours, 32", "tokens/s": 600000.0},
             {"part": "batches", "item": "ours, 64", "tokens/s": 500000.0},
             {"part": "kernels", "item": "silu", "error": "off"}, {"part": "kernels", "item": "relu"}]  # fmt: skip
    lines = report.answers(found).splitlines()
    assert "570,000   600,000" in lines[0]
    assert lines[1].endswith("1.75")
    assert any(line.endswith("1 of 2") for line in lines)
    assert any(line.endswith("not found") for line in lines)
    assert len(report.table(found).splitlines()) == 13
    assert PRESETS["gpt2"].vocab_size == 50257  # the task pads it
