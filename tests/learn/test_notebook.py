"""What a notebook shows: of a model the tree of its parts, of a ledger its page, folded; short texts elsewhere."""

import html
import re
from types import SimpleNamespace

from small_gpt import tiny

from tinygrad_lm import Tensor, nn, ops
from tinygrad_lm.learn.ledger import page as pages
from tinygrad_lm.learn.ledger.page_examples import EXAMPLES
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.learn.notebook import load_ipython_extension, tree
from tinygrad_lm.models.gpt import GPT


class Net(nn.Module):
    def __init__(self):
        self.hidden = nn.Linear(2, 16)
        self.twice = [nn.Linear(2, 2), nn.Linear(2, 2), {"a": nn.Linear(3, 2), "b": [nn.Parameter(3)]}]
        self.w = nn.Parameter(3, 4)
        self.rows = [nn.Parameter(2), nn.Parameter(2)]


def test_a_module_is_a_tree_of_shapes_and_counts():
    lines = tree(nn.freeze(Net(), "hidden.w*")).split("\n")
    assert [re.split(" {3,}", line.strip()) for line in lines] == [
        ["shapes  parameters"],
        ["Net", "w (3, 4)", "87"],
        ["hidden: Linear", "weight (2, 16) frozen, bias (16,)", "48"],
        ["twice.0 … twice.1: 2 × Linear", "2 × 6", "12"],
        ["each", "weight (2, 2), bias (2,)", "6"],
        ["twice.2.a: Linear", "weight (3, 2), bias (2,)", "8"],
        ["twice.2.b", "0 (3,)", "3"],
        ["rows", "0 (2,), 1 (2,)", "4"],
    ]
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [0, 2, 2, 4, 2, 2, 2]


def test_equal_shapes_of_other_types_are_not_one_entry():
    class Other(nn.Linear):
        pass

    class Mixed(nn.Module):
        def __init__(self):
            self.parts = [nn.Linear(2, 2), Other(2, 2), Other(2, 2)]

    titles = [line.split("  ")[1] for line in tree(Mixed()).split("\n")[2:]]
    assert titles[:2] == ["parts.0: Linear", "parts.1 … parts.2: 2 × Other"]


def test_every_number_of_a_gpt_is_counted_once():
    model = GPT(tiny("gpt2"))
    lines = tree(model).split("\n")
    assert len([line for line in lines if "Block" in line]) == 1
    top = [line for line in lines if re.match(r"  \w", line)]
    counts = [int(line.split()[-1].replace(",", "")) for line in top]
    total = sum(p.size for p in model.parameters())
    assert sum(counts) == total
    assert lines[1].split() == ["GPT", f"{total:,}"]


def test_the_extension_shows_models():
    shown = {}
    kinds = ("text/plain", "text/html")
    formatters = {name: SimpleNamespace(for_type=lambda *pair, name=name: shown.update({name: pair})) for name in kinds}
    load_ipython_extension(SimpleNamespace(display_formatter=SimpleNamespace(formatters=formatters)))
    model, texts = Net(), []
    assert {kind for kind, _ in shown.values()} == {nn.Module}
    shown["text/plain"][1](model, SimpleNamespace(text=texts.append), False)
    assert texts == [tree(model)]
    found = shown["text/html"][1](model)
    assert found.startswith("<details><summary style='cursor: pointer'>Net: 87 parameters</summary><pre ")
    assert html.escape(tree(model)) in found


def test_a_ledger_shows_its_page_folded_and_its_text_is_short():
    ledger = EXAMPLES["gpt"]()
    shown = ledger._repr_html_()
    assert shown.startswith("<details><summary style='cursor: pointer'>backward pass of loss = ".replace("'", '"'))
    assert html.unescape(re.search("srcdoc='(.*?)'", shown, re.DOTALL)[1]) == pages.page(ledger)
    texts = [repr(ledger), *map(repr, (*ledger.steps, *ledger.leaves)), repr(ledger.steps[0].inputs)]
    assert max(map(len, texts)) < 160
    assert texts[0].startswith("Ledger(backward pass of loss = ")
    assert texts[1] == "Step(#75 loss: cross_entropy () float32)"
    assert repr(ledger.leaf("wte.weight").grad).startswith("Snapshot((65, 32) float32, norm ")
    assert repr(ledger.leaf("wte.weight")) == "Leaf(#1 wte.weight: (65, 32))"


def test_a_page_comes_out_of_its_frame_as_it_was(monkeypatch):
    text = "<p>&lt; 'a' && \"b\"</p>"
    monkeypatch.setattr(pages, "page", lambda ledger: text)
    shown = EXAMPLES["scalar"]()._repr_html_()
    assert html.unescape(re.search("srcdoc='(.*?)'", shown)[1]) == text


def test_a_notebook_does_not_keep_a_page_that_is_too_large(monkeypatch):
    ledger = EXAMPLES["scalar"]()
    monkeypatch.setattr(pages, "LARGE", 1000)
    assert "<iframe" not in ledger._repr_html_()
    assert "write_page(ledger, &#x27;page.html&#x27;)" in ledger._repr_html_()
    assert ledger.where(op="matmul")._repr_html_() == "<p>backward pass: 0 of 3 steps, youngest first</p>"


def test_what_a_prompt_calls_its_values_is_no_name():
    """IPython's _, __ and _7 hold what was shown, and come before the variables of the cells."""
    names = {"_": None, "__": None, "_7": None, "Tensor": Tensor, "ops": ops, "trace": trace}
    exec("x = Tensor([0.5], requires_grad=True)\n_ = __ = _7 = x\nledger = trace(lambda: (x * x).sum())", names)
    assert [leaf.name for leaf in names["ledger"].leaves] == ["x"]
