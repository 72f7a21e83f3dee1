"""`python -m tinygrad_lm.learn tensorboard`: every number of a log becomes an event, and TensorBoard reads it back."""

import sys
import types

import pytest
from made_logs import made_run

from tinygrad_lm.learn.__main__ import main
from tinygrad_lm.learn.tensorboard import scalars

STEP = [("loss", 3.0, 10, 90.0), ("norm", 1.0, 10, 90.0)]
EVALUATION = [("validation", 3.0, 10, 90.0), ("validation_sources/text", 3.0, 10, 90.0)]
SECOND = [(name, value - 1 if name != "norm" else value, 20, 180.0) for name, value, *_ in STEP + EVALUATION]
RESULT = [("whole", 2.5, 20, 180.0), ("whole_sources/text", 2.5, 20, 180.0)]
EXPECTED = STEP + EVALUATION + SECOND + RESULT


@pytest.fixture
def written(monkeypatch):
    """What the command gives a stand-in of TensorBoard's writer, by folder."""
    folders = {}

    class Writer:
        def __init__(self, folder):
            self.points = folders.setdefault(folder, [])

        def add_scalar(self, name, value, step, *, wall_time):
            self.points.append((name, value, step, wall_time))

        def close(self):
            self.points.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", types.SimpleNamespace(Writer=Writer))
    return folders


def test_each_number_of_the_logs_is_given_to_the_writer(tmp_path, written, capsys):
    for name in "ab":
        made_run(tmp_path / name)
    assert main(["tensorboard", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert written == {str(tmp_path / name / "tensorboard"): [*EXPECTED, "closed"] for name in "ab"}
    assert capsys.readouterr().out.splitlines()[1] == f"{tmp_path / 'b' / 'tensorboard'}: 10 numbers of 6 curves"


def test_what_was_used_of_a_source_is_a_curve_each():
    record = {"step": 3, "validation": 1.5, "sources": {"plays": {"epochs": 0.5, "error": -0.01}}}
    assert list(scalars([record])) == [
        ("validation", 1.5, 3, 0.0),
        ("sources/plays/epochs", 0.5, 3, 0.0),
        ("sources/plays/error", -0.01, 3, 0.0),
    ]


def test_a_run_without_steps_is_refused_before_anything_is_written(tmp_path, written, capsys):
    made_run(tmp_path / "a")
    made_run(tmp_path / "b", losses=())
    assert main(["tensorboard", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert f"tensorboard: {tmp_path / 'b'} has no step yet" in capsys.readouterr().err
    assert written == {}


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    made_run(tmp_path / "a")
    assert main(["tensorboard", str(tmp_path / "a")]) == 2
    assert "pip install 'tinygrad-lm[tensorboard]'" in capsys.readouterr().err


def test_tensorboard_reads_it_back(tmp_path):
    """By its own reader, the one behind its page; a second time the events are replaced, and others' files stay."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: its reader is not asked")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    run = made_run(tmp_path / "a")
    folder = tmp_path / "a" / "tensorboard"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for times in (1, 2):
        assert main(["tensorboard", str(tmp_path / "a")]) == 0
        assert sorted(path.name[:10] for path in folder.iterdir()) == ["events.out", "notes.txt"]
        events = EventAccumulator(str(folder))
        events.Reload()
        found = [
            (name, make_ndarray(event.tensor_proto).item(), event.step, event.wall_time)
            for name in events.Tags()["tensors"]
            for event in events.Tensors(name)
        ]
        assert sorted(found) == sorted(EXPECTED + [("loss", 1.5, 30, 300.0)] * (times - 1))
        run.log.write(step=30, loss=1.5, elapsed=300.0)
