"""The page of a ledger, without a browser: its numbers are the ledger's, nothing can break out of it or be loaded."""

import argparse
import base64
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from small_gpt import random_tokens, shaken, tiny

from tinygrad_lm import ops
from tinygrad_lm.backend import dtype_of
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.errors import ConfigError
from tinygrad_lm.learn.ledger.command import add_arguments, write_example
from tinygrad_lm.learn.ledger.page import SCRIPTS, page, write_page
from tinygrad_lm.learn.ledger.page_examples import EXAMPLES
from tinygrad_lm.learn.ledger.trace import trace
from tinygrad_lm.models.gpt import GPT

WEB = files("tinygrad_lm.learn.ledger") / "web"


class Elements(HTMLParser):
    """All elements of a page as [tag, attributes, its text up to the next tag]."""

    def __init__(self, text):
        super().__init__()
        self.found = [["", {}, ""]]
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        self.found.append(["", {}, ""])

    def handle_data(self, data):
        self.found[-1][2] += data

    def of(self, tag):
        return [one for one in self.found if one[0] == tag]


def data_of(text):
    """The JSON in a page."""
    (script,) = [one for one in Elements(text).of("script") if one[1].get("id") == "ledger"]
    return json.loads(script[2])


def read(data, place):
    """(facts, array) at a place of a page's JSON, as its script reads them."""
    facts = data["arrays"][place]
    if facts["numbers"] is None:
        return facts, None
    numbers = np.frombuffer(base64.b64decode(data["numbers"][facts["numbers"]]), "<" + facts["kind"])
    return facts, numbers.reshape(facts["shape"])


def gpt_ledger(preset="gpt2", **options):
    config = tiny(preset)
    model = shaken(config)
    x, y = random_tokens(config, 2, 5)
    return trace(lambda: ops.cross_entropy(model(x), y), **options)


LEDGERS = EXAMPLES | {
    "modern": lambda: gpt_ledger("modern-tiny"),
    "all large": lambda: gpt_ledger(keep=0, local=0),
    "without a forward pass": lambda: trace((Tensor(np.arange(3.0), requires_grad=True) ** 2).sum()),
}


@pytest.mark.parametrize("name", LEDGERS)
def test_the_numbers_in_the_page_are_the_ledgers(name):
    ledger = LEDGERS[name]()
    data = data_of(page(ledger))
    compared = 0

    def same(place, snapshot):
        nonlocal compared
        if snapshot is None:
            assert place is None
            return
        facts, array = read(data, place)
        assert tuple(facts["shape"]) == snapshot.shape
        if not isinstance(snapshot, np.ndarray):
            for fact in ("dtype", "bytes", "norm", "low", "high", "mean", "wild"):
                assert facts[fact] == getattr(snapshot, fact)
            assert tuple(facts["histogram"]) == snapshot.histogram
            snapshot = snapshot.array
        if snapshot is None:
            assert array is None
        else:
            np.testing.assert_array_equal(array, snapshot)
            compared += 1

    assert len(data["steps"]) == len(ledger.steps)
    for found, step in zip(data["steps"], ledger.steps, strict=True):
        for fact in ("number", "op", "forward", "backward", "name", "module", "options", "depth", "inside"):
            assert found[fact] == getattr(step, fact)
        assert found["callers"] == [[line.place, line.text] for line in step.callers]
        assert found["held"] == [step.held_before, step.held_after]
        same(found["value"], step.value)
        same(found["incoming"], step.incoming)
        assert list(found["saved"]) == list(step.saved)
        for key in step.saved:
            same(found["saved"][key], step.saved[key])
        for a, b in zip(found["inputs"], step.inputs, strict=True):
            assert (a["name"], a["number"]) == (b.name, b.number)
            for fact in ("value", "contribution", "before", "after", "local"):
                same(a[fact], getattr(b, fact))
    for found, leaf in zip(data["leaves"], ledger.leaves, strict=True):
        assert (found["number"], found["name"]) == (leaf.number, leaf.name)
        for fact in ("value", "before", "grad"):
            same(found[fact], getattr(leaf, fact))
    assert compared > 0 or name == "all large"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_that_are_none_and_whole_numbers_can_be_in_it(dtype):
    x = Tensor(np.array([1.0, np.inf, np.nan, -np.inf], dtype_of(dtype)), requires_grad=True, name="x")
    w = Tensor(np.ones((3, 2), dtype_of(dtype)), requires_grad=True, name="w")
    with np.errstate(all="ignore"):
        ledger = trace(lambda: (x * 2).sum() + ops.embedding(w, np.array([0, 2])).sum())
    data = data_of(page(ledger))
    _, array = read(data, data["leaves"][0]["value"])
    np.testing.assert_array_equal(array, x.data.astype("float32"))
    assert data["arrays"][data["leaves"][0]["value"]]["norm"] == "NaN"
    ids = [one for step in data["steps"] if step["op"] == "embedding" for one in step["inputs"] if one["name"] == "ids"]
    np.testing.assert_array_equal(read(data, ids[0]["value"])[1], [0, 2])


def test_the_same_numbers_are_in_it_once():
    runs = [base64.b64decode(text) for text in data_of(page(gpt_ledger()))["numbers"]]
    assert len(runs) == len(set(runs))


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--<script>", "{{ledger}}", "\u2028\"'&amp;"])
def test_no_title_and_no_name_breaks_out_of_its_place(text):
    x = Tensor(2.0, requires_grad=True, name=text)
    written = page(trace(lambda: x * x), title=text)
    elements = Elements(written)
    assert len(elements.of("script")) == 2
    assert [one[2] for one in (*elements.of("title"), *elements.of("h1"))] == [text, text]
    assert data_of(written)["leaves"][0]["name"] == text
    assert "<" not in elements.of("script")[0][2]  # of "</script " browsers know more than Python's parser


def test_nothing_is_loaded_from_anywhere():
    text = page(EXAMPLES["scalar"]())
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|//cdn|@import|url\(|\bfetch\(|XMLHttpRequest|import\(", text)
    for tag, attributes, _ in Elements(text).found:
        assert tag not in {"link", "img", "iframe", "object", "base"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")


@pytest.mark.parametrize("preset", ["gpt2", "modern-tiny"])
def test_the_page_of_a_transformer_of_two_layers_is_small(preset, tmp_path):
    config = tiny(preset, vocab_size=65, block_size=16, n_embd=32, n_head=4)
    model = GPT(config, 0, np.float32)
    x, y = random_tokens(config, 2, 16)
    path = write_page(trace(lambda: ops.cross_entropy(model(x), y)), tmp_path / "page.html", title=preset)
    print(f"{preset}: {path.stat().st_size / 1e6:.2f} MB")
    assert path.stat().st_size < 3e6


def test_all_scripts_are_in_it():
    assert sorted(SCRIPTS) == sorted(one.name for one in WEB.iterdir() if one.name.endswith(".js"))
    text = page(EXAMPLES["scalar"]())
    for name in ("style.css", *SCRIPTS):
        assert (WEB / name).read_text(encoding="utf-8") in text


def test_colours_of_text_are_told_apart_from_what_is_behind_them():
    """Contrast of at least 4.5, as WCAG 2.1 AA asks, in both schemes."""
    schemes = re.findall(r":root \{(.*?)\}", (WEB / "style.css").read_text(encoding="utf-8"), re.S)
    assert len(schemes) == 2

    def luminance(code):
        code = code[1:] if len(code) == 7 else "".join(c * 2 for c in code[1:])
        c = np.array([int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+);", scheme))
        pairs = [(ink, back) for ink in ("ink", "soft", "accent", "flow", "bad") for back in ("paper", "card")]
        pairs += [("soft", "wash"), ("soft", "done"), ("accent", "wash"), ("here-ink", "here")]
        for ink, back in pairs:
            low, high = sorted([luminance(colours[ink]), luminance(colours[back])])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, back)


def test_a_ledger_without_a_step_is_no_page():
    with pytest.raises(ConfigError, match="no step"):
        page(EXAMPLES["scalar"]().where(op="matmul"))


def test_the_command_writes_an_example_or_says_why_not(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    out = tmp_path / "page.html"
    assert write_example(parser.parse_args(["--example", "diamond", "--out", str(out)])) == 0
    assert data_of(out.read_text(encoding="utf-8"))["of"] == 5
    assert write_example(parser.parse_args(["--example", "scalar", "--out", str(tmp_path / "none" / "page.html")])) == 2
    assert capsys.readouterr().err.startswith("error: ")
