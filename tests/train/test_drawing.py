"""How runs are drawn: what is at which place along a curve, and that it can be seen."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tinygrad_lm.train.drawing import DARK, LIGHT, NIGHT, means, picture, stretches, training_curve
from tinygrad_lm.train.log import Log


@pytest.mark.parametrize("count", [0, 1, 2, 7, 60, 800, 20_000])
def test_each_value_is_in_one_stretch(count):
    assert [i for piece in stretches(count) for i in range(count)[piece]] == [*range(count)]
    assert len(stretches(count)) <= 60


def falling(steps):
    """A loss as losses fall: fast at first, then slowly (README's run, roughly)."""
    return 1.2 + 2 * np.exp(-steps / 8) + np.exp(-steps / 60)


def test_means_have_no_lag():
    """A running mean with fading memory lies half a nat above this curve."""
    steps = np.arange(800)
    x, y = means(steps, falling(steps))
    np.testing.assert_allclose(y, falling(np.array(x)), atol=0.01)
    np.testing.assert_allclose(*means(steps, steps), rtol=0)
    assert (0 <= x[0] < 2, steps[-1] - 40 < x[-1] < steps[-1]) == (True, True)


@pytest.mark.parametrize(("count", "error"), [(6000, 0.2), (60, 0.75)])
def test_means_are_less_noisy_than_what_they_are_of(count, error):
    noise = np.random.default_rng(0).normal(size=(count, 50))
    assert np.std([means(np.arange(count), each)[1] for each in noise.T]) < error


def test_training_stands_at_the_updates_that_it_had(tmp_path):
    """The first loss is that of the untrained model: at 0, where an evaluation before the first step stands, too."""
    log = Log(tmp_path / "log.jsonl")
    log.records = [{"step": step, "loss": float(loss)} for step, loss in ((1, 4.0), (2, 3.0), (3, 2.0))]
    axes = Figure().add_subplot()
    training_curve(axes, log, label="training")
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 4], [1, 3], [2, 2]]] * 2
    assert [line.get_label() for line in axes.lines][1] == "training"


@pytest.mark.parametrize(("dark", "colours", "background"), [(False, LIGHT, "white"), (True, DARK, NIGHT)])
def test_curves_stand_out_from_the_page(dark, colours, background, tmp_path):
    """Contrast at least 3, as WCAG 2.2 asks of graphics, for the colours that training, validation and levels have."""
    before = [matplotlib.rcParams[name] for name in ("axes.prop_cycle", "font.size", "axes.facecolor")]
    with picture(tmp_path / "p.png", "title", (2, 2), dark) as figure:
        axes = figure.add_subplot()
        used = [axes.plot([0, 1])[0].get_color() for _ in colours]
        assert to_rgb(figure.get_facecolor()) == to_rgb(axes.get_facecolor()) == to_rgb(background)
    assert used == colours
    assert [matplotlib.rcParams[name] for name in ("axes.prop_cycle", "font.size", "axes.facecolor")] == before
    lights = [luminance(colour) for colour in [background, *colours[:3]]]
    assert all((max(lights[0], other) + 0.05) / (min(lights[0], other) + 0.05) >= 3 for other in lights[1:])


def luminance(colour):
    """WCAG's relative luminance."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))
