"""gpu_race.py, rehearsed: contenders in processes take turns; one that dies is named, and the others go on."""

import re

import pytest

pytest.importorskip("ml_dtypes")
pytest.importorskip("torch")
import gpu_race

from tinygrad_lm.kernels.cuda import driver


@pytest.mark.slow
def test_all_come_to_the_end(capsys):
    options = ["--contenders", "ours,tuned,eager", "--beside", str(gpu_race.HERE.parents[1]), "--profile", "ours"]
    assert gpu_race.main(["gpt2", "--rehearse", "--rounds", "2", *options]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^(\S+) +[\d.]+ ms, [\d.]+ to [\d.]+$", text, re.M) == ["ours", "eager", options[3], "tuned"]
    losses = [float(x) for x in re.findall(r"'first loss': ([\d.]+)", text)]
    assert len(losses) == 3
    assert max(losses) - min(losses) < 1e-3
    assert "us a step in kernels" in text


@pytest.mark.slow
def test_who_dies_is_named(capsys, monkeypatch):
    kind = gpu_race.Contender

    def dying(args, name, root):
        contender = kind(args, name, root)
        if name == "eager":
            contender.process.kill()
        return contender

    monkeypatch.setattr(gpu_race, "Contender", dying)
    assert gpu_race.main(["gpt2", "--rehearse", "--rounds", "1", "--contenders", "ours,eager"]) == 1
    text = capsys.readouterr().out
    assert "eager failed:" in text
    assert re.search(r"^ours +[\d.]+ ms", text, re.M)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--contenders", "ours,jax"], "unknown contenders jax"), (["--beside", "/"], "is no checkout")],
)
def test_what_cannot_race(options, message, capsys):
    with pytest.raises(SystemExit):
        gpu_race.main(["gpt2", *options])
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_gpu():
    if driver.gpu_problem() is None:
        pytest.skip("there is a GPU")
    assert gpu_race.main(["gpt2", "--contenders", "ours"]) == 1
