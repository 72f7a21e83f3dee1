"""`python -m tinygrad_lm.learn compare`: the curves of several runs, and what differs in their settings."""

import json
import re

import pytest
from made_logs import OTHERS, made_run
from matplotlib.figure import Figure

from tinygrad_lm.learn.__main__ import main


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: (figures.append(figure), path.write_bytes(b"")))
    return figures


def compare(*arguments):
    return main(["compare", *map(str, arguments)])


@pytest.mark.parametrize(
    ("against", "places"), [("steps", [10, 20]), ("tokens", [160, 320]), ("minutes", [1.5, 3.0])]
)  # fmt: skip
def test_curves_with_what_differs(against, places, tmp_path, drawn, capsys):
    made_run(tmp_path / "a")
    made_run(tmp_path / "b", (2.5, 1.5), n_embd=8, lr=0.5)
    out = tmp_path / "c.png"
    assert compare(tmp_path / "a", tmp_path / "b", "--out", out, "--against", against) == 0
    axes = drawn[0].axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[places[0], 3.0], [places[1], 2.0]],
        [[places[1], 2.5]],
        [[places[0], 2.5], [places[1], 1.5]],
        [[places[1], 2.0]],
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "a (n_embd 4, lr 0.001): 2.500",
        "b (n_embd 8, lr 0.5): 2.000",
    ]
    assert against in axes.get_xlabel()
    assert axes.get_ylabel() == "validation loss, nats per token"
    assert len({line.get_color() for line in axes.lines}) == 2
    assert [line.split("  ") for line in re.sub(" {3,}", "  ", capsys.readouterr().out).split("\n")] == [
        ["", "a", "b"],
        ["n_embd", "4", "8"],
        ["lr", "0.001", "0.5"],
        ["steps made", "20", "20"],
        ["minutes", "3.0", "3.0"],
        ["validation loss, nats per token: lowest", "2.0000", "1.5000"],
        ["on the whole split", "2.5000", "2.0000"],
        [""],
        [str(out)],
        [""],
    ]


def test_few_settings_in_the_legend_and_all_in_the_table(tmp_path, drawn, capsys):
    made_run(tmp_path / "a")
    made_run(tmp_path / "x" / "a", lr=0.5, seed=3, clip=2.0, warmup=7)
    assert compare(tmp_path / "a", tmp_path / "x" / "a", "--out", tmp_path / "c.png") == 0
    label = drawn[0].axes[0].get_legend().get_texts()[1].get_text()
    assert label == f"{tmp_path / 'x' / 'a'} (lr 0.5, clip 2, warmup 7, 1 more): 2.500"
    assert {line.split()[0] for line in capsys.readouterr().out.split("\n")[1:5]} == {"lr", "seed", "clip", "warmup"}


def test_steps_that_a_clock_gave_are_no_setting(tmp_path, drawn, capsys):
    made_run(tmp_path / "a", seconds=60.0, steps=20, ending=1.0)
    made_run(tmp_path / "b", seconds=60.0, steps=21, ending=2.0)
    assert compare(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c.png") == 0
    assert drawn[0].axes[0].get_legend().get_texts()[1].get_text() == "b: 2.500"
    assert capsys.readouterr().out.split("\n")[1].startswith("steps made")


def test_other_vocabularies_are_named(tmp_path, drawn, capsys):
    made_run(tmp_path / "a")
    made_run(tmp_path / "b", text="abc")
    assert compare(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c.png") == 0
    assert "note: the vocabularies differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "new"], "new has no evaluation yet; leave it out"),
        (["a", "pairs"], "measure different things: validation loss, nats per token (a) and validation loss, nats per"),
        (["pairs", "--against", "tokens"], "the steps of pairs have any number of tokens; draw it against steps"),
        (["old", "--against", "minutes"], "the log of old has no times; draw it against steps"),
        (["a", "--out", "c.txt"], "cannot draw c.txt: expected a name that ends in"),
        (["a", "--out", "missing/c.png"], "its folder does not exist; create it, or choose another --out"),
        (["pears"], "did you mean pairs?"),
    ],
    ids=["no evaluation", "other measure", "no tokens", "no times", "no picture", "no folder", "no run"],
)
def test_what_cannot_be_compared(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made_run("a")
    made_run("new", losses=())
    made_run("pairs", others=OTHERS | {"measure": ["validation loss", "nats per pair"], "chat": {}})
    old = made_run("old")
    records = [{name: record[name] for name in record if name != "elapsed"} for record in old.log.records]
    old.log.path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert compare(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))
