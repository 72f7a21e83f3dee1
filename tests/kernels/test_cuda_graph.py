"""A recorded function: what its replays compute, what they cannot know, and what must not be recorded."""

from types import SimpleNamespace

import numpy as np
import pytest
import strict_capture

from tinygrad_lm.kernels.cuda.graph import WARM_UP, Graph
from tinygrad_lm.optim.clipping import clip_gradients


def test_a_replay_computes_from_what_the_arrays_hold_now(xp):
    calls, x, place, found = [], xp.arange(8.0), xp.zeros((), np.int64), xp.zeros(8)

    def function():
        calls.append(None)
        place.__iadd__(1)
        y = x.reshape(2, 4) * x.take(place)  # a view, a row chosen on the device, a new array
        y -= y.sum(axis=0)
        found[...] = xp.where(xp.arange(8) == place, y.reshape(-1), found)

    graph = Graph(xp)
    for _ in range(6):
        graph(function)
    assert len(calls) == WARM_UP + 1
    host = np.arange(8.0)
    expected = [-(host * i).reshape(2, 4)[::-1].reshape(-1)[i] for i in range(7)]
    np.testing.assert_array_equal(found.get()[1:7], expected[1:])


def test_a_number_that_was_an_argument_stays_what_it_was(xp):
    """That is why what changes must lie on the GPU."""
    step, found = [0], xp.zeros(())

    def function():
        step[0] += 1
        found.__iadd__(step[0])

    graph = Graph(xp)
    for _ in range(5):
        graph(function)
    assert found.get() == 1 + 2 + 3 * 3


@pytest.mark.parametrize("max_norm", [0.0, 1.0])
def test_clipping_can_be_recorded(xp, max_norm):
    """The norm, the limit and the count stay on the GPU; 0 is no limit."""
    gradient, norms = xp.zeros(100, "f4"), xp.zeros(2, "f4")
    count = xp.full((), 4, "f4")

    def function():
        gradient.fill(1)
        norms[...] = clip_gradients(SimpleNamespace(grad=gradient), max_norm, count)

    graph = Graph(xp)
    for _ in range(WARM_UP + 2):
        graph(function)
    assert norms.get().tolist() == [2.5, 2.5]
    assert gradient.get() == pytest.approx(0.1 if max_norm else 0.25)


@pytest.mark.parametrize(
    "slip",
    [
        lambda xp, x: x.item(),
        lambda xp, x: x.get(),
        lambda xp, x: float(x.sum()),
        lambda xp, x: x * 2 if x.sum() > 0 else x,
        lambda xp, x: x + xp.asarray(np.arange(x.size)),
        lambda xp, x: xp.ones((8, 8)) @ xp.ones((8, 8)),
        lambda xp, x: xp.vdot(xp.ones(100), xp.ones(100)),
    ],
    ids=["item", "get", "float", "if", "from the host", "cuBLAS", "vdot"],
)
def test_what_waits_for_the_device_cannot_be_recorded(xp, slip):
    """It works in the warm-up, so it would slip in unseen."""
    x, slips = xp.ones(1), [False]

    def function():
        if slips[0]:
            slip(xp, x)
        x.__iadd__(1)

    graph = Graph(xp)
    for _ in range(WARM_UP):
        graph(function)
    slip(xp, x)
    slips[0] = True
    with pytest.raises((strict_capture.CaptureError, RuntimeError, ValueError)):
        graph(function)
    slips[0] = False
    graph(function)  # nothing of the failed recording is left
    graph(function)
    assert x.get() == 1 + WARM_UP + 2
