"""The page of a ledger in a real Chromium: it opens, steps, folds, obeys the keyboard, and shows what `.grad` holds.

Skipped where selenium, chromium or chromedriver is missing. Nothing here waits for a clock: the page's timer is ours.
"""

import re
import unicodedata
from dataclasses import replace

import browser
import numpy as np
import pytest
from slow import slow_but
from small_gpt import random_tokens, shaken, tiny

from tinygrad_lm import ops
from tinygrad_lm.engine.op import Op
from tinygrad_lm.engine.tensor import Tensor
from tinygrad_lm.learn.formula import halves
from tinygrad_lm.learn.ledger.page import write_page
from tinygrad_lm.learn.ledger.page_examples import EXAMPLES
from tinygrad_lm.learn.ledger.paths import paths
from tinygrad_lm.learn.ledger.trace import trace

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

TIMER = "window.setInterval = (f) => { window.tick = f; return 1; }; window.clearInterval = () => {};"
JUMP = """
const box = document.getElementById("jump");
box.value = arguments[0];
box.dispatchEvent(new Event("change"));
"""
NUMBERS = """
const at = document.querySelector(arguments[0]);
for (const one of at.querySelectorAll("details")) {
  one.open = true;
  one.dispatchEvent(new Event("toggle"));  // now, not when the browser comes to it
}
return [...at.querySelectorAll("[data-number]")].map((one) => one.dataset.number);
"""
OVERLAPS = """
const all = [...document.querySelectorAll(".box:not(.frame)")]
  .map((one) => [one.dataset.key, one.getBoundingClientRect()]);
return all.flatMap(([a, p], i) => all.slice(i + 1)
  .filter(([b, q]) => p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom)
  .map(([b]) => [a, b]));
"""
IN_SIGHT = """
const [here, ...more] = document.querySelectorAll(".box.current");
const box = here.getBoundingClientRect();
const pane = document.getElementById("pane").getBoundingClientRect();
return more.length === 0 && here.getAttribute("aria-current") === "step"
  && box.top >= pane.top && box.bottom <= pane.bottom && box.left >= pane.left && box.right <= pane.right;
"""
NAMELESS = """
const all = document.querySelectorAll("button, input, canvas, section, nav, [role=group], svg[role=img]");
return [...all].filter((one) => !(one.ariaLabel || one.labels?.length || one.getAttribute("aria-labelledby")
  || one.textContent.trim())).map((one) => one.outerHTML);
"""


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        found.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": TIMER})
        yield found


@pytest.fixture
def opened(chromium, tmp_path):
    """A function that opens the page of a ledger, in a window of this size; afterwards nothing was logged."""

    def open_page(ledger, width=1440, height=1000):
        browser.resize(chromium, width, height)
        chromium.get(write_page(ledger, tmp_path / "page.html").as_uri())
        assert chromium.execute_script("return document.documentElement.dataset.ready") == "yes"
        return Page(chromium)

    yield open_page
    assert chromium.get_log("browser") == []


class Page:
    """What the tests do with an open page."""

    def __init__(self, browser):
        self.browser, self.js = browser, browser.execute_script

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def click(self, selector):
        self.js("document.querySelector(arguments[0]).click()", selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def press(self, key, selector="body"):
        self.one(selector).send_keys(key)

    def jump(self, name):
        self.js(JUMP, name)

    def numbers(self, selector):
        """All numbers of the figures that a selector finds, as exactly as the page says them."""
        return [float(x) for x in self.js(NUMBERS, selector)]

    def overlaps(self):
        """Pairs of boxes of the graph that lie on each other; a frame's own is only its title."""
        return self.js(OVERLAPS)


def transformer(preset="gpt2"):
    config = tiny(preset)
    model = shaken(config)
    x, y = random_tokens(config, 2, 5)
    return model, trace(lambda: ops.cross_entropy(model(x), y))


@pytest.mark.parametrize("preset", slow_but(["gpt2", "modern-tiny"], "modern-tiny"))
def test_it_steps_through_a_transformer_and_back(preset, opened):
    _, ledger = transformer(preset)
    page = opened(ledger)
    start = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
    print(f"{preset}: loaded in {page.js(start):.0f} ms")
    seen = []
    for direction in ("next", "back"):
        for _ in ledger.steps:
            seen.append((page.text("#count"), page.text("#step-title")))
            page.click(f"#{direction}")
    n = len(ledger.steps)
    expected = [(f"{i} / {n}", step.op) for i, step in enumerate(ledger.steps, start=1)]
    expected += expected[::-1]
    assert [count for count, _ in seen] == [count for count, _ in expected]
    assert all(title.startswith(op) for (_, title), (_, op) in zip(seen, expected, strict=True))


def test_the_numbers_of_every_step_are_shown(opened):
    """Of each figure of each step, all numbers, to the last bit."""
    ledger = EXAMPLES["linear"]()
    page = opened(ledger)
    for step in ledger.steps:
        wanted = [step.value, step.incoming]
        for one in step.inputs:
            added = [one.before, one.contribution, one.after] if one.before else [one.contribution]
            if one.contribution is not None:
                wanted += [*added, one.value, *([] if one.local is None else [one.local])]
            elif one.value.size <= 16:
                wanted.append(one.value)
        wanted += list(step.saved.values())
        numbers = [x.array if hasattr(x, "array") else x for x in wanted]
        assert page.numbers("#step") == np.concatenate([np.ravel(x) for x in numbers]).tolist()
        page.click("#next")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["gpt2", "modern-tiny"])
def test_gradients_shown_are_those_of_the_parameters(preset, opened):
    model, ledger = transformer(preset)
    page = opened(ledger)
    for name, p in model.flat.items():
        page.jump(name)
        assert name in page.text("#leaf-title")
        assert page.numbers("#leaf .row figure:nth-child(2)") == p.grad.ravel().tolist(), name
        assert page.js("return document.activeElement.id") == "leaf-title"
    page.jump("no such name")
    assert page.one("#jump").get_attribute("aria-invalid") == "true"


def test_what_is_added_up_at_a_fan_out_is_shown(opened):
    page = opened(EXAMPLES["diamond"]())
    page.click("#next")
    page.click("#next")
    value, *product, before, added, after = page.numbers("#step .input:nth-of-type(2)")
    assert value == np.exp(np.float32(0.5))
    assert np.float32(product[0]) * np.float32(product[1]) == np.float32(product[2]) == np.float32(added)
    assert np.float32(before) + np.float32(added) == np.float32(after)
    assert "2 of 3" in page.text("#step .input:nth-of-type(2)")


@pytest.mark.slow
def test_paths_of_an_entry_add_up_to_its_gradient(opened):
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3)), requires_grad=True, name="x")
    W = Tensor(np.random.default_rng(1).standard_normal((3, 4)), requires_grad=True, name="W")
    ledger = trace(lambda: (ops.tanh(x @ W) * (x @ W)).sum())
    page = opened(ledger)
    for name, p in (("W", W), ("x", x)):
        page.jump(name)
        for k, index in enumerate(np.ndindex(p.shape)):
            page.js(f"document.querySelectorAll('#leaf .row figure:nth-child(2) td button')[{k}].click()")
            assert f"{name}[{', '.join(map(str, index))}]" in page.text("#paths-title")
            *products, total = page.numbers("#paths")
            assert sorted(products) == pytest.approx(sorted(way.product for way in paths(ledger, name, index)))
            assert total == pytest.approx(sum(products)) == pytest.approx(p.grad[index])


@pytest.mark.slow
def test_modules_unfold_and_fold_and_no_box_lies_on_another(opened):
    page = opened(transformer()[1])
    boxes = lambda: page.js("return [...document.querySelectorAll('.box')].map((one) => one.dataset.key)")
    folded = boxes()
    assert "h.0" in folded
    assert "h.0.attn" not in folded
    page.click("[data-key='h.0']")
    assert "h.0.attn" in boxes()
    assert page.one("[data-key='h.0']").get_attribute("aria-expanded") == "true"
    page.press(Keys.ENTER, "[data-key='h.0.attn']")
    assert {"h.0.attn.c_q", "h.0.attn.c_proj"} <= set(boxes())
    assert page.js("return document.activeElement.dataset.key") == "h.0.attn"  # who presses it stays there
    assert page.overlaps() == []
    page.click("#unfold")
    steps = {f"#{step.number}" for step in transformer()[1].steps}
    assert steps <= set(boxes())
    assert page.overlaps() == []
    page.click("#fold")
    assert boxes() == folded


@pytest.mark.slow
def test_the_current_step_is_marked_and_in_sight(opened):
    page = opened(transformer()[1])
    page.click("#unfold")
    for _ in range(38):
        page.click("#next")
        assert page.js(IN_SIGHT)


def test_it_can_be_used_by_keyboard(opened):
    page = opened(transformer()[1])
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ARROW_LEFT)
    assert page.text("#count").startswith("2 /")
    assert page.text("#live").startswith("Step 2 of 39: linear")
    page.press(Keys.ARROW_RIGHT, "#jump")  # there it moves among letters
    assert page.text("#count").startswith("2 /")
    page.press(Keys.ARROW_RIGHT, "#step canvas")  # and here among entries
    assert page.text("#count").startswith("2 /")
    assert page.text("#step .entry").startswith("y[0, 0, 0] = ")
    page.press(Keys.ARROW_DOWN, "#step canvas")
    assert page.text("#step .entry").startswith("y[0, 1, 0] = ")
    page.press(Keys.ARROW_DOWN, ".box.current")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.text("#count").startswith("3 /")
    assert page.js("return document.activeElement.classList.contains('current')")


@pytest.mark.slow
def test_every_control_has_a_name_and_the_page_its_landmarks(opened):
    page = opened(EXAMPLES["linear"]())
    assert page.js(NAMELESS) == []
    for selector in ("main", "nav[aria-label]", "h1", "header", "[aria-live=polite]", "html[lang]"):
        assert len(page.browser.find_elements("css selector", selector)) == 1, selector


@pytest.mark.slow
def test_it_plays_to_the_end_and_stops(opened):
    ledger = EXAMPLES["diamond"]()
    page = opened(ledger)
    page.click("#play")
    assert page.text("#play").strip() == "Pause"
    for _ in ledger.steps[1:]:
        page.js("tick()")
    assert page.text("#count") == "5 / 5"
    assert page.text("#play").strip() == "Play"


def odd_ledgers():
    """Ledgers that are not as most are: large, broken, empty, partial, with an inner walk."""
    x = Tensor(np.arange(1.0, 7.0).reshape(3, 2), requires_grad=True, name="x")
    w = Tensor(np.ones(2), requires_grad=True, name="w")

    def chain(y=x):
        for _ in range(200):
            y = y * 1.01
        return y.sum()

    return {
        "chain": trace(chain),
        "recompute": trace(lambda: (ops.recompute(x, function=lambda a: ops.tanh(a * w)) * x).sum()),
        "bare": trace((x * x).sum()),
        "statistics": trace(lambda: (x * x).sum(), keep=0, local=0),
        "not a number": trace(lambda: (x * np.nan).sum()),
        "no entry": trace(lambda: (x[:0] * 2.0).sum()),
        "part": transformer()[1].where(op="linear"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", odd_ledgers())
def test_odd_ledgers_are_shown_too(name, opened):
    ledger = odd_ledgers()[name]
    page = opened(ledger)
    page.click("#unfold")
    for step in ledger.steps:
        assert page.text("#step-title").startswith(step.op)
        page.click("#next")
    shown = {input.number for step in ledger.steps for input in step.inputs}
    for leaf in ledger.leaves:
        assert len(page.browser.find_elements("css selector", f"[data-key='#{leaf.number}']")) == (leaf.number in shown)
    if name == "recompute":
        tops = page.js("return [...document.querySelectorAll('.box')].map((one) => one.offsetTop)")
        assert tops.count(min(tops)) == 1  # only the loss hangs on nothing
        for leaf in ("x", "w"):
            page.jump(leaf)
            assert "cannot be listed" in page.text("#paths")
    if name == "part":
        page.jump("h.0.attn.c_q.weight")
        assert "a part of the walk" in page.text("#paths")


@pytest.mark.slow
def test_formulas_in_type_say_what_the_rules_say(opened):
    """Raised and lowered signs stand for the same; a root has a bar in place of brackets; lines part the equations."""
    ledger = trace(lambda x: x * 2, 1.0)
    formulas = [halves(op) for op in Op.registry.values()]
    ledger.steps = [
        replace(ledger.steps[0], number=100 + i, forward=a, backward=b) for i, (a, b) in enumerate(formulas)
    ]
    ledger.of = len(ledger.steps)
    page = opened(ledger)
    plain = lambda text: re.sub(r"[\s,()]", "", unicodedata.normalize("NFKC", text))
    for formula in formulas:
        for i, half in enumerate(formula):
            assert plain(page.js(f"return document.querySelectorAll('.rule dd')[{i}].textContent")) == plain(half)
        slanted = page.js("return [...document.querySelectorAll('.rule var')].map((one) => one.textContent)")
        if formula[1].startswith("da = dy b,"):
            assert slanted == ["y", "a", "b", "da", "dy", "b", "db", "dy", "a"]
        if formula[1].endswith("log a"):
            assert slanted[-1] == "a"
        if "in a row" in formula[0]:
            assert "a" not in slanted
        page.click("#next")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_wider_than_the_window(name, width, opened):
    ledger = EXAMPLES[name]()
    page = opened(ledger, width, 844)
    page.click("#unfold")
    if ledger.leaves:
        page.jump(ledger.leaves[-1].name)
    for _ in ledger.steps[1:]:
        page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.js("return document.documentElement.scrollWidth") <= width
        page.click("#back")
