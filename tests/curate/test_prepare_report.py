"""What cleaning removes is counted, and the report adds up."""

import json
import re
from dataclasses import dataclass

import pytest
from curate.preparing import edit, held_out
from small_mixture import (
    documents,
    prepare_inline,
    set_up,
    tokens_in,
)

from tinygrad_lm.curate.cleaning.cleaner import Cleaned, Removal
from tinygrad_lm.curate.pipeline import worker
from tinygrad_lm.data.config_table import number_kind
from tinygrad_lm.data.synthetic.kinds import KINDS
from tinygrad_lm.data.synthetic.synthetic_source import Entropy, SyntheticSource, option

# ---- cleaning, between text and tokens


class Cutter:
    """Stands in for a Cleaner: removes texts with "猫", cuts the others at " ab "."""

    def __init__(self, clean, folder):
        pass

    def __call__(self, text):
        if "猫" in text:
            return Cleaned((), (Removal("cats", "a cat is in it", text),))
        pieces = tuple(piece for piece in text.split(" ab ") if piece)
        return Cleaned(pieces, tuple(Removal("cut", "ab", " ab ") for _ in pieces[1:]))


def test_what_cleaning_removes_is_gone_and_counted(mixture, tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(worker, "Cleaner", Cutter)
    worker.load_tools.cache_clear()
    out = prepare_inline(mixture, tmp_path / "out")
    worker.load_tools.cache_clear()
    report = json.loads((out / "report.json").read_bytes())
    text = "".join(tokenizer.decode(tokens_in(out, name, split)) for name in report for split in ("train", "val"))
    sides = [
        "".join(tokenizer.decode(tokens_in(out, name, split)) for name in report).split("<|endoftext|>")
        for split in ("train", "val")
    ]
    assert "猫" not in text
    assert " ab " not in text
    assert "there" in text
    cats = [
        line for path in (mixture.parent / "more").glob("*") for line in path.read_text().splitlines() if "猫" in line
    ]
    assert report["more"]["removed"]["cats"] == {
        "reasons": {"a cat is in it": len(cats)}, "documents": len(cats), "parts": 0, "characters": sum(map(len, cats))
    }  # fmt: skip
    left = {line for path in (mixture.parent / "more").glob("*") for line in path.read_text().splitlines()} - set(cats)
    pieces = [piece for line in left for piece in line.split(" ab ") if piece]
    made = report["more"]["train"]["documents"] + report["more"]["val"]["documents"]
    for line in left:  # all pieces are in the split of their whole text
        for piece in line.split(" ab "):
            assert not piece or piece in sides[held_out(line, 0.2)]
    assert made + sum(report["more"]["removed"].get("exact duplicate", {"reasons": {}})["reasons"].values()) == len(
        pieces
    )
    assert report["more"]["pieces"] == len(pieces) - len(left) > 2
    assert report["more"]["removed"]["cut"]["parts"] == len(pieces) - len(left)
    assert report["more"]["removed"]["cut"]["documents"] == 0


def test_the_table_adds_up(mixture, tmp_path, monkeypatch, capsys):
    """For each source, records plus the changes listed below it give its documents."""

    class First(Cutter):
        """Removes a letter from all texts before they are cut or removed."""

        def __call__(self, text):
            cleaned = super().__call__(text[1:])
            return Cleaned(cleaned.texts, (Removal("first", "letter", text[0]), *cleaned.removed))

    monkeypatch.setattr(worker, "Cleaner", First)
    worker.load_tools.cache_clear()
    prepare_inline(mixture, tmp_path / "out")
    worker.load_tools.cache_clear()
    steps = sums(capsys.readouterr().out)
    assert {name: steps[name][0] for name in steps} == {"books": 73, "web": 57, "more": 30}
    for records, left, changes in steps.values():
        assert records + sum(changes.values()) == left
    assert set(steps["books"][2]) == {"damaged", "no text", "first", "cats", "cut", "pieces", "exact duplicate"}


def test_the_table_adds_up_when_evaluation_texts_are_cut_out(tmp_path, monkeypatch, capsys):
    set_up(monkeypatch, tmp_path)
    question = " ".join(f"q{i}" for i in range(13))
    longer, shorter = (" ".join(f"w{i}" for i in range(n)) for n in (400, 20))
    twice = f"{longer} {question} {longer}"
    texts = [twice, f"{shorter} {question} {shorter}", longer, twice]
    (tmp_path / "a.lines").write_text("\n".join(texts))
    (tmp_path / "eval.txt").write_text(question)
    path = tmp_path / "mix.toml"
    path.write_text(
        'validation = 0\n[clean]\ndecontaminate = ["eval.txt"]\ndeduplicate = "exact"\n'
        '[[source]]\nname = "a"\nweight = 1\nfiles = ["*.lines"]\n'
    )
    prepare_inline(path, tmp_path / "out")
    told = capsys.readouterr().out
    removed = {"decontaminate": -1, "pieces": 2, "exact duplicate": -2}
    assert sums(told) == {"a": (4, 3, removed)}
    assert "and 2 parts of others" in told


def sums(table):
    """{source: (records, documents, {step: change})}, parsed from the report's table."""
    found, name = {}, None
    for line in table.splitlines()[1:]:
        if line.startswith(("  - ", "  + ")):
            what, number = re.fullmatch(r"  [-+] (.+?)  +([\d,]+)  .*", line).groups()
            found[name][2][what] = int(f"{line[2]}{number.replace(',', '')}")
        elif not line.startswith((" ", "warning")):
            name, records, left = line.split()[:3]
            found[name] = (int(records), int(left), {})
    return found


def test_a_long_name_pushes_no_column_out(mixture, tmp_path, capsys):
    edit(mixture, ('name = "web"', f'name = "web-{"x" * 40}"'))
    prepare_inline(mixture, tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert len(lines) == 4
    assert {len(line) for line in lines} == {len(lines[0])}


def test_the_table_names_the_first_damaged_records(mixture, tmp_path, capsys):
    (mixture.parent / "more" / "b.lines").write_text("!\n" * 4 + "the\n")
    prepare_inline(mixture, tmp_path / "out")
    told = capsys.readouterr().out.splitlines()
    row = next(i for i, line in enumerate(told) if "4  11.43% of the records" in line)
    assert told[row + 1 : row + 5] == [
        *(f"      more/b.lines, b.lines#{i}: it begins with !" for i in (1, 2, 3)),
        "      … more in report.json; most are in more/b.lines",
    ]
    assert sum("report.json" in line for line in told) == 1


def test_what_a_synthetic_source_draws_is_not_cleaned_and_has_a_floor(mixture, tmp_path, monkeypatch, tokenizer):
    @dataclass(frozen=True)
    class Made(SyntheticSource):
        share: float = option(0.5, number_kind(0))
        entropy = Entropy(10.0, 0.5)

        def documents(self, count, seed=0, first=0):
            return iter(([f"{seed} the 猫 the"] * 3 + documents(count, seed))[first:])

        def nats(self, text):
            return len(text) / 7

    monkeypatch.setitem(KINDS, "stub", Made)
    monkeypatch.setattr(worker, "Cleaner", Cutter)
    worker.load_tools.cache_clear()
    edit(mixture, ('files = ["more/*.lines"]', 'synthetic = { kind = "stub", documents = 20, seed = 4, share = 0.5 }'))
    out = prepare_inline(mixture, tmp_path / "out")
    worker.load_tools.cache_clear()
    entry = json.loads((out / "manifest.json").read_bytes())["sources"]["more"]
    texts = list(Made().documents(20, 4))
    for split in ("train", "val"):
        here = [text for text in texts if held_out(text, 0.2) == (split == "val")]
        ids = [i for text in here for i in [tokenizer.eot, *tokenizer.encode(text)]]
        assert tokens_in(out, "more", split).tolist() == ids
        assert entry["floor"][split] == pytest.approx(sum(len(text) / 7 for text in here) / len(ids), rel=1e-12)
