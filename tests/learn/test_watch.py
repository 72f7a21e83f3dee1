"""The live page: it reads a run while another process writes it, shows what is there, and serves this machine alone."""

import http.client
import json
import re
import threading
from contextlib import contextmanager

import pytest
from browser import chromium
from small_run import TEXT, editing, pretrain

from tinygrad_lm.errors import CheckpointError, ConfigError
from tinygrad_lm.learn.watch.feed import POINTS, Feed, means
from tinygrad_lm.learn.watch.watch import listening

STEPS = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watch")
    (folder / "text.txt").write_text(TEXT)
    plan = ["--steps", STEPS, "--eval-every", 3]
    assert pretrain("--preset", "tiny", "--data", folder / "text.txt", "--out", folder / "run", *plan) == 0
    return folder / "run"


@pytest.fixture
def growing(run, tmp_path):
    """A folder as it is at the beginning of the run, and the lines of its log."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_bytes((run / "config.json").read_bytes())
    return folder, (run / "log.jsonl").read_bytes().splitlines(keepends=True)


def test_it_reads_a_log_as_it_grows(growing, run):
    """Line by line, also where a line is not yet whole; at each moment it shows what a new reader would."""
    folder, lines = growing
    feed = Feed(folder)
    assert (feed()["step"], feed()["curve"], feed()["left"], feed()["share"]) == (0, [], None, 0)
    written = b""
    for line in lines:
        for part in (line[:9], line[9:]):
            written += part
            (folder / "log.jsonl").write_bytes(written)
            assert feed() == Feed(folder)()
    shown = feed()
    log = Feed(run)()
    assert {name: shown[name] for name in shown if name not in ("path", "samples")} == {
        name: log[name] for name in log if name not in ("path", "samples")
    }
    assert [step for step, _ in shown["curve"]] == list(range(1, STEPS + 1))
    assert [step for step, _ in shown["validation"]] == [3, 6, 8]
    assert (shown["step"], shown["share"]) == (STEPS, 1.0)
    assert shown["levels"].keys() >= {"uniform", "unigram", "bigram"}
    assert [head.partition(",")[0] for head, _ in log["samples"]] == ["8", "6", "3"]
    assert {title for _, title, *_ in shown["findings"]} >= {"loss at the start", "validation against training"}


def test_a_resumed_run_is_read_anew(growing):
    """It has replaced its log by a shorter one."""
    folder, lines = growing
    feed, log = Feed(folder), folder / "log.jsonl"
    log.write_bytes(b"".join(lines))
    assert feed()["step"] == STEPS
    (folder / "new").write_bytes(b"".join(lines[:2]))
    (folder / "new").replace(log)
    assert feed()["step"] == 2


def test_time_left_and_speed(growing):
    """By the share of the plan that is done; 64 tokens a step."""
    folder, lines = growing
    records = [json.loads(line) for line in lines if b'"norm"' in line][:2]
    for record, seconds in zip(records, (2.0, 4.0), strict=True):
        record |= {"seconds": seconds, "elapsed": record["step"] * 3.0}
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shown = Feed(folder)()
    assert shown["share"] == 2 / STEPS
    assert shown["left"] == 6.0 * (STEPS / 2 - 1)
    assert shown["tokens"] == 64 / 3


def test_long_curves_are_thinned_by_means():
    steps = list(range(1, 5 * POINTS + 1))
    found = means(steps, [float(step) for step in steps])
    assert len(found) == POINTS
    assert found[0] == (3.0, 3.0)
    assert means([1, 2, 3], [1.0, float("nan"), 3.0]) == [(1.0, 1.0), (3.0, 3.0)]
    assert means([], []) == []


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="is not the folder of a run"):
        Feed(tmp_path)


@contextmanager
def served(run):
    with listening(Feed(run), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def ask(port, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_the_server_has_a_page_and_its_numbers_for_this_machine(run):
    with served(run) as port:
        status, headers, page = ask(port, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "connect-src 'self'" in headers["Content-Security-Policy"]
        assert not re.findall(rb"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z]+://""", page), "a foreign asset"
        assert json.loads(ask(port, "/run.json")[2]) == json.loads(json.dumps(Feed(run)()))
        assert ask(port, "/config.json")[0] == 404
        assert ask(port, "/run.json", "evil.example")[0] == 403
        with pytest.raises(ConfigError, match=f"cannot listen on port {port}"):
            listening(Feed(run), port)
    with pytest.raises(ConfigError, match="--port must be from 0 to 65535, found 70000"):
        listening(Feed(run), 70000)


def test_damage_is_shown_and_passes(growing):
    """The page says what is wrong, and goes on when it is mended."""
    folder, lines = growing
    (folder / "log.jsonl").write_bytes(b'{"step": "one"}\n')
    with served(folder) as port:
        for _ in range(2):
            assert "step must be a number of updates" in json.loads(ask(port, "/run.json")[2])["problem"]
        (folder / "new").write_bytes(b"".join(lines))
        (folder / "new").replace(folder / "log.jsonl")
        assert json.loads(ask(port, "/run.json")[2])["step"] == STEPS


@pytest.mark.slow
def test_the_page_in_a_browser(run, tmp_path):
    """Curves are drawn, samples are there as text, markup in them is not, and nothing is logged as an error."""
    with editing(run) as config:
        config["title"] = "a <b>title</b>"
    with chromium() as browser, served(run) as port:
        browser.get(f"http://127.0.0.1:{port}/")
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(browser, 30).until(lambda b: b.find_elements("css selector", "#curve polyline"))
        text = browser.find_element("tag name", "body").text
        assert "a <b>title</b>" in text
        assert f"step {STEPS}" in text
        assert "finished" in text
        assert "loss at the start" in text
        assert len(browser.find_elements("css selector", "#curve polyline")) == 2
        assert len(browser.find_elements("css selector", "#curve circle")) == 3
        assert len(browser.find_elements("css selector", "#samples pre")) == 3
        assert browser.find_element("css selector", ".bar").get_attribute("aria-valuenow") == "100"
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert not browser.get_log("browser")
