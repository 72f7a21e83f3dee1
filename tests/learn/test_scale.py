"""What training on many GPUs takes is what was published, and what our own tree sends."""

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
from thread_ranks import together

from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.cost import scale
from tinygrad_lm.learn.cost.budget import MODELS, parameters


@pytest.mark.parametrize("run", scale.PUBLISHED, ids=lambda run: run[0])
def test_published_runs_took_as_long(run):
    """The time to compute within a twentieth; what is sent is hidden behind it there."""
    name, gpu, count, hours, tokens, total, utilisation, _ = run
    computing, *_ = scale.of_step(name, count, tokens, gpu, utilisation)
    assert computing * total / tokens / 3600 == pytest.approx(hours, rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_as_many_bytes_are_added_as_the_tree_sends(count, monkeypatch):
    """Over links of one speed and without latency."""
    speed = 1e9
    monkeypatch.setitem(scale.LINKS, "h100", replace(scale.LINKS["h100"], near=speed, far=speed, latency=0.0))
    _, adding, handing, _ = scale.of_step("gpt2", count, 2**19, "h100", 0.4)
    n, size = 1024, parameters(MODELS["gpt2"])
    if count <= 8:
        sent = together(count, lambda rank: rank.add_up(np.zeros(n, np.float32)) or rank.sent)[0]
        assert adding * speed / (4 * size) == pytest.approx(sent / (4 * n))
    assert adding * speed == pytest.approx(2 * (count - 1) / count * 4 * size)
    assert handing * speed <= 4 * size


def test_a_gpu_keeps_its_part_of_the_moments():
    alone, eight = (scale.of_step("gpt2", count, 2**19, "h100", 0.4)[3] for count in (1, 8))
    assert alone - eight == pytest.approx(8 * parameters(MODELS["gpt2"]) * (1 - 1 / 8))


def test_the_page_of_numbers(capsys):
    assert scale.show_scale(Namespace(gpu="a100", utilisation=0.5)) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    assert len([line for line in out.splitlines() if line.startswith("gpt3") and "too large" in line]) == 4
    with pytest.raises(ConfigError, match="--utilisation must be above 0 and at most 1, found 2"):
        scale.show_scale(Namespace(gpu="a100", utilisation=2))
