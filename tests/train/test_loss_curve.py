"""What the picture of a run shows of its losses."""

import pytest
from matplotlib.figure import Figure

from tinygrad_lm.train.log import Log
from tinygrad_lm.train.loss_curve import draw_losses


@pytest.mark.parametrize(("sources", "top"), [(["a", "b"], 2.0 + 0.8 + 0.01), (["a"], 9.0 + 0.08 * 8.0)])
def test_several_sources_fill_the_picture(sources, top, tmp_path, monkeypatch):
    """They are near each other, so the first fall of the training loss, from 9, is cut; that of one text is seen."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: (figures.append(figure), path.write_bytes(b"")))
    log = Log(tmp_path / "log.jsonl")
    log.records = [{"step": step, "loss": loss} for step, loss in ((1, 9.0), (2, 3.0), (3, 1.0))]
    for step, loss in ((2, 2.0), (3, 1.0)):
        log.records.append({"step": step, "validation": loss, "validation_sources": dict.fromkeys(sources, loss)})
    draw_losses(log, tmp_path / "loss.png", "title", {"uniform": 9.0}, {})
    (axes,) = figures[0].axes
    assert axes.get_ylim()[1] == pytest.approx(top)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("steps (updates made)", "loss, nats per token")
    assert [text.get_text() for text in axes.texts] == ["uniform 9.000"]
