"""The page in a real Chromium: it talks to the model, and shows of it what the model computes."""

import itertools
import re
import threading
import time

import browser
import pytest
from small_service import post, serving, small_service

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

NAMELESS = """
const all = document.querySelectorAll("button, input, select, textarea, section, nav, [role=group], svg[role=img]");
return [...all].filter((one) => !(one.ariaLabel || one.labels?.length || one.getAttribute("aria-labelledby")
  || one.textContent.trim())).map((one) => one.outerHTML);
"""
SET = """
const input = document.getElementById(arguments[0]);
input.value = arguments[1];
input.dispatchEvent(new Event("input"));
"""
TOKENS = "return [...document.querySelectorAll('#log [data-i]')].map((one) => one.textContent)"
BARS = """
return [...document.querySelectorAll("#bars li:not(.gap)")].map((one) =>
  [one.querySelector(".token").textContent, ...[...one.querySelectorAll(".figure")].map((x) => x.textContent)]);
"""
AGAIN = """
document.querySelector(".actions button").click();
document.getElementById("message").value = "too early";
document.getElementById("form").requestSubmit();
"""
TABLE = """
return [...document.querySelectorAll("#parts tr")].map((row) => [...row.children].map((cell) => cell.textContent));
"""
WIDTH = """
const right = (one) => one.getBoundingClientRect().right;
const wide = [...document.querySelectorAll("body *")].filter((one) => right(one) > innerWidth + 1);
return [document.documentElement.scrollWidth, ...wide.map((one) => one.outerHTML.slice(0, 80))];
"""
CONTRAST = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (x) => ((x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
const bright = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function under(one) {
  const layers = [];
  for (; one; one = one.parentElement) layers.unshift(getComputedStyle(one).backgroundColor);
  for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
  return canvas.getImageData(0, 0, 1, 1).data;
}
return [...document.querySelectorAll("body *")].filter((one) => one.offsetParent && !one.disabled
    && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).map((one) => {
  const [a, b] = [bright(numbers(getComputedStyle(one).color)), bright(under(one))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 90)];
}).filter(([ratio]) => ratio < 4.5);
"""


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service():
    service = small_service(tokenizer="char", size=128)
    service.chat.ends = frozenset()  # each answer has as many tokens as are asked for
    return service


@pytest.fixture(scope="module")
def server(service):
    with serving(service) as server:
        yield server


@pytest.fixture
def page(chromium, server):
    """The page, newly opened; afterwards nothing was logged."""
    browser.resize(chromium, 1440, 900)
    chromium.get(server.url)
    page = Page(chromium)
    page.wait("document.documentElement.dataset.ready === 'yes'")
    page.set("seed", 1)
    yield page
    assert chromium.get_log("browser") == []


class Page:
    """What the tests do with an open page."""

    def __init__(self, browser):
        self.browser, self.js = browser, browser.execute_script

    def wait(self, condition):
        end = time.monotonic() + 60
        while not self.js(f"return Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.01)

    def click(self, selector):
        self.js("document.querySelector(arguments[0]).click()", selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def set(self, name, value):
        self.js(SET, name, str(value))

    def send(self, text):
        """Send a message, and wait until the model has answered and its tokens are shown."""
        self.begin(text)
        self.wait_for_tokens()

    def wait_for_tokens(self):
        self.wait("!document.getElementById('send').disabled && document.querySelector('#bars li')")

    def begin(self, text):
        self.set("message", text)
        self.js("document.getElementById('form').requestSubmit()")


@pytest.mark.slow
def test_a_conversation(page):
    page.set("seed", 3)
    page.set("tokens", 12)
    page.send("Hello")
    assert page.text("#name") == "small"
    assert page.js("return [...document.querySelectorAll('.bubble')].length") == 2
    assert page.text(".user .bubble") == "Hello"
    first = page.text(".assistant .bubble")
    assert page.js("return [...document.querySelectorAll('#log .glue')].map((one) => one.textContent)")[:2] == [
        "<|begin|><|user|>", "<|end|><|assistant|>",
    ]  # fmt: skip
    page.send("And now?")
    assert page.js("return [...document.querySelectorAll('.turn')].map((one) => one.className)") == [
        "turn user", "turn assistant", "turn user", "turn assistant",
    ]  # fmt: skip
    assert page.text(".assistant .bubble") == first  # what was said stays
    page.click("#fresh")
    assert page.js("return document.querySelectorAll('.bubble').length") == 0
    page.send("Hello")
    assert page.text(".assistant .bubble") == first


@pytest.mark.slow
def test_another_answer(page):
    page.set("seed", "")
    page.set("tokens", 12)
    page.send("Hello")
    first = page.text(".assistant .bubble")
    assert page.text(".actions").endswith("cut off after 12 tokens")
    page.js(AGAIN)  # and nothing else can begin meanwhile
    page.wait_for_tokens()
    assert page.js("return document.getElementById('message').value") == "too early"
    assert page.js("return document.querySelectorAll('.bubble').length") == 2
    assert page.text(".assistant .bubble") != first


@pytest.mark.slow
def test_instructions_come_first(page):
    page.set("system", "be brief")
    page.set("tokens", 3)
    page.send("Hello")
    assert page.text(".system .bubble") == "be brief"
    assert page.js("return document.querySelector('#log .glue').textContent") == "<|begin|><|system|>"


def test_the_bars_are_what_the_server_says(page, server, service):
    page.set("tokens", 5)
    page.send("Hello")
    chosen = page.js("return Number(document.querySelector('#log .here').dataset.i)")
    prompt = service.chat.prompt([{"role": "user", "content": "Hello"}]).tolist()
    assert chosen == len(prompt) - 1  # the token after which the answer begins
    for temperature, top_k in ((0.8, 0), (0.5, 3), (0, 0)):
        page.js("document.getElementById('bars').replaceChildren()")
        page.set("temperature", temperature)
        page.set("top_k", top_k)
        page.wait("document.querySelector('#bars li')")
        found = post(server, "/v1/inspect/next", tokens=prompt, temperature=temperature, top_k=top_k)
        bars = page.js(BARS)
        assert len(bars) >= 20
        for row, (_, *figures) in zip(found["candidates"], bars, strict=False):
            for figure, p in zip(figures, (row["before"], row["after"]), strict=True):
                shown = float(figure.removeprefix("<").removesuffix("%")) / 100
                assert shown == pytest.approx(p, abs=6e-4 if p > 0.0995 else 1.01e-4)
        assert f"{found['drawable']} token" in page.text("#entropy")
    assert page.js("return document.querySelectorAll('#bars .out').length") == len(bars) - 1
    page.click("#plain")
    assert page.js("return document.getElementById('temperature').value") == "1"


def test_a_token_that_is_clicked_is_looked_at(page):
    page.set("tokens", 8)
    page.send("Hello")
    tokens = page.js(TOKENS)
    page.click("#log [data-i='3']")
    page.wait("document.querySelector('#context .token').textContent === 'e'")
    page.wait("document.querySelector('#bars .came .token')?.textContent === 'l'")
    assert page.js("return document.querySelector('#log .followed').dataset.i") == "4"
    page.js("document.querySelector('#log .here').focus()")
    assert page.js("return document.activeElement.tabIndex") == 0
    for key, i in (("ARROW_RIGHT", 4), ("ARROW_RIGHT", 5), ("ARROW_LEFT", 4)):
        page.browser.switch_to.active_element.send_keys(getattr(Keys, key))
        assert page.js("return document.activeElement.dataset.i") == str(i)
    page.click("#before")
    assert page.js("return document.querySelector('#log .here').dataset.i") == "3"
    page.js("document.querySelector('#strip rect:last-of-type').dispatchEvent(new MouseEvent('click'))")
    assert page.js("return document.querySelector('#log .here').dataset.i") == str(len(tokens) - 1)
    assert page.js("return document.getElementById('after').disabled")


def test_tokens_are_shaded_and_say_how_likely_they_were(page, server):
    page.set("tokens", 8)
    page.send("Hello")
    ids = page.js("return document.querySelectorAll('#log [data-i]').length")
    label = page.js("return document.querySelector(\"#log [data-i='4']\").getAttribute('aria-label')")
    assert re.fullmatch(r"l, log P −\d+\.\d\d, P [\d.]+%, rank \d+, entropy of its prediction \d\.\d\d", label)
    logprob = float(re.search(r"−([\d.]+)", label)[1])
    token = "document.querySelector(\"#log [data-i='4']\")"
    heat = f"return Number({token}.style.getPropertyValue('--heat'))"
    assert page.js(heat) == pytest.approx(min(1, logprob / 7), abs=2e-3)
    page.js(f"{token}.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))")
    assert page.text("#tip").startswith(f"l\nlog P −{logprob:.2f}, P ")
    page.js("const s = document.getElementById('shade'); s.value = 'none'; s.dispatchEvent(new Event('change'))")
    assert page.js(heat) == 0
    assert page.js("return document.querySelectorAll('#strip rect').length") == ids
    rows = page.js(TABLE)
    assert [row[0] for row in rows] == ["part", "user", "the answer", "template", "all"]
    assert int(rows[-1][1]) == ids - 1 == sum(int(row[1]) for row in rows[1:-1])


def test_the_stop_button(page, service, monkeypatch):
    forward, clicked, tokens = type(service.model).forward, threading.Event(), itertools.count()

    def slow(*arguments):
        assert next(tokens) < 20 or clicked.wait(60)
        time.sleep(0.02)
        return forward(*arguments)

    monkeypatch.setattr(type(service.model), "forward", slow)
    page.set("tokens", 100)
    page.begin("Hello")
    page.wait("document.querySelectorAll('.assistant .t').length > 2")
    page.click("#stop")
    clicked.set()
    page.wait_for_tokens()
    assert 2 < len(page.text(".assistant .bubble")) < 60
    assert not service.line.line
    page.set("tokens", 3)
    page.send("Again")
    assert page.js("return document.querySelectorAll('.bubble').length") == 4


def test_a_plain_text_is_continued(page):
    page.click("#text")
    page.set("tokens", 6)
    page.set("seed", 1)
    page.send("one\ntwo ")
    assert page.text(".bubble").startswith("one⏎\ntwo ")
    n = len(page.js(TOKENS))
    assert n == 14
    page.send("")
    assert len(page.js(TOKENS)) == 20
    assert page.js("return document.querySelectorAll('.given').length") == 14


@pytest.mark.slow
def test_what_goes_wrong_is_said(page, monkeypatch, chromium):
    page.begin("é")  # its vocabulary has it
    page.wait("document.querySelector('#log .here')")
    page.click("#fresh")
    page.begin("日")
    page.wait("!document.getElementById('notice').hidden")
    assert "the vocabulary lacks 1 character: '日'" in page.text("#notice")
    assert page.js("return document.getElementById('message').value") == "日"
    assert [entry["message"] for entry in chromium.get_log("browser") if "400" not in entry["message"]] == []


def test_turns_that_were_left_out(page):
    page.set("tokens", 6)
    for text in ("a" * 40, "b" * 40, "c" * 40):
        page.send(text)
    assert page.text("#notice") == "The context is full: the oldest 2 messages were left out."
    assert page.js("return document.querySelectorAll('.user .bubble').length") == 2


def test_text_is_never_markup(page):
    page.set("tokens", 3)
    page.send("<img src=x onerror=alert(1)><b>")
    assert page.text(".user .bubble") == "<img src=x onerror=alert(1)><b>"
    assert page.js("return document.querySelectorAll('#log img, #log b').length") == 0


@pytest.mark.slow
def test_an_untrained_model_begins_with_plain_text(chromium):
    with serving(small_service(tokenizer="char", trained=False)) as server:
        chromium.get(server.url)
        page = Page(chromium)
        page.wait("document.documentElement.dataset.ready === 'yes'")
        assert page.js("return document.getElementById('text').getAttribute('aria-pressed')") == "true"
        assert "not trained to chat" in page.text("#facts")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_and_can_be_read(width, scheme, page):
    browser.resize(page.browser, width, 844, scheme)
    page.set("tokens", 30)
    page.send("w" * 50)
    for view in ("talk", "look"):
        page.click(f"#view-{view}")
        assert page.js(WIDTH) == [width]
        assert page.js(CONTRAST) == []
    assert page.js(NAMELESS) == []
    for selector in ("main", "nav[aria-label]", "h1", "header", "[aria-live=polite]", "html[lang]"):
        assert len(page.browser.find_elements("css selector", selector)) == 1, selector
