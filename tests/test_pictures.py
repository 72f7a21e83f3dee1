"""docs/pictures.py draws the pictures of README and docs/, for light and for dark pages."""

import importlib.util
from pathlib import Path

from made_logs import made_run
from matplotlib.image import imread

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


def test_a_run_is_drawn_for_light_and_dark_pages(tmp_path, capsys):
    made_run(tmp_path / "run")
    assert pictures.main(["mixture", "--run", str(tmp_path / "run"), "--out", str(tmp_path)]) == 0
    light, dark = tmp_path / "mixture.png", tmp_path / "mixture-dark.png"
    assert capsys.readouterr().out.split() == [str(light), str(dark)]
    assert imread(light)[..., :3].mean() > 0.9
    assert imread(dark)[..., :3].mean() < 0.2


def test_a_new_run_is_trained_by_the_commands(tmp_path, monkeypatch):
    """One after another, in a folder of their own; the last makes the run that is drawn."""
    ran, drawn = [], []

    def run(command, cwd, check):
        ran.append(command[1])
        if command[-1] == "run":
            made_run(Path(cwd, "run"))

    monkeypatch.setattr(pictures.subprocess, "run", run)
    monkeypatch.setattr(pictures, "draw_losses", lambda log, path, *_: drawn.append(path))
    assert pictures.main(["mixture"]) == 0
    assert pictures.main([]) == 0
    examples = ROOT / "examples"
    assert ran == [examples / "mixture" / "make.py", "-m", "-m", examples / "pretrain.py",
                   examples / "pretrain_shakespeare.py"]  # fmt: skip
    assert drawn == [examples / f"{name}{dark}.png" for name in ("mixture", "loss") for dark in ("", "-dark")]
