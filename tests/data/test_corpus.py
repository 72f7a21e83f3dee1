"""Sources of text: their order, what is refused, and that a broken download never becomes the corpus."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data import corpus
from tinygrad_lm.data.corpus import FILE, cache_folder, fetch, load_corpus, read_text, split
from tinygrad_lm.data.synthetic.play import entropy_per_character, play
from tinygrad_lm.errors import DataError

GOOD = ("First Citizen:\nBefore we proceed any further, hear me speak — “épée”.\n\n" * 3000).encode()
SHA256 = hashlib.sha256(GOOD).hexdigest()


class Server:
    """An HTTP server on this machine. `send(handler)` answers; `requests` counts; `closing` is set when it ends."""

    def __init__(self, send):
        self.requests, self.closing = 0, threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                send(self, server)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/input.txt"
        self.thread = threading.Thread(target=partial(self.http.serve_forever, poll_interval=0.01))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def send(handler, server, body=GOOD, promised=None, status=200):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if promised is None else promised))
    handler.end_headers()
    handler.wfile.write(body)


def send_half_and_stall(handler, server):
    send(handler, server, GOOD[: len(GOOD) // 2], promised=len(GOOD))
    handler.wfile.flush()
    server.closing.wait()


def say_nothing(handler, server):
    server.closing.wait()


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch, tmp_path):
    """No data folder, an empty cache, no server; and GOOD is the expected content."""
    monkeypatch.delenv("TINYGRAD_LM_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(corpus, "cache_folder", lambda: tmp_path / "cache" / "tinygrad_lm")
    monkeypatch.setattr(corpus, "SHA256", SHA256)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(corpus, "URL", f"http://127.0.0.1:{port}/input.txt")


@pytest.fixture
def cached(tmp_path):
    return tmp_path / "cache" / "tinygrad_lm" / FILE


# A file of one's own


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\r\n\ufeff"), min_size=1))
def test_a_file_comes_back_character_by_character(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(text.encode())
    assert read_text(file) == text


def test_a_named_file_is_a_corpus_without_a_known_floor(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_bytes(b"one\r\ntwo\n")
    found = load_corpus(str(file))
    assert (found.name, found.text, found.floor) == ("mine.txt", "one\r\ntwo\n", None)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt: no such file \(current folder: "):
        load_corpus(tmp_path / "nowhere.txt")


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(DataError, match="expected a text file, found a folder"):
        load_corpus(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="found an empty file"):
        load_corpus(tmp_path / "empty.txt")


def test_a_file_below_a_file_cannot_be_read(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(DataError, match="cannot be read: Not a directory"):
        load_corpus(tmp_path / "file" / "below.txt")


def test_an_unreadable_file_says_so(monkeypatch, tmp_path):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # chmod would not work for the superuser
    with pytest.raises(DataError, match="cannot be read: Permission denied; check its permissions"):
        load_corpus(tmp_path / "secret.txt")


@given(st.text(), st.sampled_from([b"\xff", b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80"]), st.sampled_from(["", "end"]))
def test_the_offset_of_what_is_not_utf8_is_named(tmp_path_factory, before, bad, after):
    file = tmp_path_factory.getbasetemp() / "latin.txt"
    file.write_bytes(before.encode() + bad + after.encode())
    with pytest.raises(DataError, match=f"found byte 0x{bad[0]:02x} at offset {len(before.encode()):,} of"):
        read_text(file)


# The built-in play


@pytest.mark.slow
def test_the_play_can_be_asked_for(capsys):
    found = load_corpus("built-in")
    assert (found.name, found.text, found.floor) == ("built-in play", play(), entropy_per_character())
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_offline_it_stands_in_and_one_line_says_so(capsys):
    found = load_corpus()
    out, err = capsys.readouterr()
    assert found == load_corpus("built-in")
    assert out.count("\n") == 1
    assert out.startswith("offline: using the built-in play; --data FILE uses your own text (")
    assert "is missing, and the download of" in out
    assert err == ""


@pytest.mark.slow
def test_a_damaged_cache_is_reported_too_when_offline(capsys, cached):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(GOOD[:-1])
    assert load_corpus().name == "built-in play"
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert f"{cached} is damaged, and the download of" in out


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(capsys, cached):
    cached.parent.parent.write_text("a file where a folder is wanted")
    assert load_corpus().name == "built-in play"
    assert capsys.readouterr().out.count("\n") == 1


# Tiny Shakespeare: the data folder, the cache, the download


def test_the_data_folder_comes_first(monkeypatch, tmp_path, cached):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"not looked at")
    (tmp_path / FILE).write_bytes(GOOD)
    monkeypatch.setenv("TINYGRAD_LM_DATA", str(tmp_path))
    found = load_corpus()
    assert (found.name, found.text, found.floor) == ("tiny Shakespeare", GOOD.decode(), None)


def test_a_wrong_file_in_the_data_folder_is_an_error(monkeypatch, tmp_path):
    (tmp_path / FILE).write_bytes(GOOD + b" ")
    monkeypatch.setenv("TINYGRAD_LM_DATA", str(tmp_path))
    with pytest.raises(
        DataError, match=f"from TINYGRAD_LM_DATA: expected tiny Shakespeare, sha256 {SHA256[:12]}, found"
    ):
        load_corpus()


def test_a_data_folder_without_the_file_is_passed_over(monkeypatch, tmp_path, cached):
    monkeypatch.setenv("TINYGRAD_LM_DATA", str(tmp_path))
    cached.parent.mkdir(parents=True)
    cached.write_bytes(GOOD)
    assert load_corpus().text == GOOD.decode()


@pytest.mark.slow
def test_an_empty_data_folder_variable_is_no_folder(monkeypatch, tmp_path):
    (tmp_path / FILE).write_bytes(b"lies in the current folder by chance")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYGRAD_LM_DATA", "")
    assert load_corpus().name == "built-in play"


def test_it_is_downloaded_once(monkeypatch, capsys, cached):
    with Server(send) as server:
        monkeypatch.setattr(corpus, "URL", server.url)
        first, second = load_corpus(), load_corpus()
    assert first == second
    assert first.text == GOOD.decode()
    assert server.requests == 1
    assert os.listdir(cached.parent) == [FILE]
    assert capsys.readouterr().out == ""


def test_a_damaged_cache_is_downloaded_again(monkeypatch, cached):
    cached.parent.mkdir(parents=True)
    cached.write_bytes(GOOD[:1000])
    with Server(send) as server:
        monkeypatch.setattr(corpus, "URL", server.url)
        assert load_corpus().text == GOOD.decode()
    assert cached.read_bytes() == GOOD


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (partial(send, body=GOOD[:-1] + b"?"), f"expected sha256 {SHA256[:12]}, found"),
        (partial(send, body=b""), f"expected sha256 {SHA256[:12]}, found"),
        (partial(send, body=GOOD[:1000], promised=len(GOOD)), "failed: "),
        (partial(send, body=b"Not Found", status=404), "HTTP Error 404"),
        (send_half_and_stall, "timed out"),
        (say_nothing, "timed out"),
        (lambda handler, server: handler.wfile.write(b"not HTTP at all\r\n\r\n"), "failed: "),
    ],
    ids=["wrong", "empty", "cut short", "404", "stalled", "silent", "not HTTP"],
)
@pytest.mark.parametrize("before", [None, b"damaged"])
def test_a_failed_download_leaves_everything_as_it_was(cached, answer, complaint, before):
    cached.parent.mkdir(parents=True)
    if before:
        cached.write_bytes(before)
    with Server(answer) as server, pytest.raises(DataError, match=complaint):
        fetch(server.url, cached, SHA256, timeout=0.2 if complaint == "timed out" else 60)
    assert [file.read_bytes() for file in cached.parent.iterdir()] == ([before] if before else [])


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    folders = []
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        folders.append(cache_folder())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    folders.append(cache_folder())
    roots = [Path("/xdg"), tmp_path / "Library" / "Caches", Path("/local"), tmp_path / ".cache"]
    assert folders == [root / "tinygrad_lm" for root in roots]


def test_the_data_modules_need_numpy_alone():
    code = "import sys; sys.modules.update(tqdm=None, tiktoken=None); import tinygrad_lm.data.tokenizers.tokenizer"
    root = Path(corpus.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(root)})


# The split


@given(st.integers(0, 10_000))
def test_split_cuts_any_sequence_in_two(n):
    train, validation = split(range(n))
    assert [*train, *validation] == list(range(n))
    assert len(train) == int(0.9 * n)


def test_split_gives_views_of_an_array():
    tokens = np.arange(100)
    assert all(np.shares_memory(part, tokens) for part in split(tokens))


def test_tiny_shakespeare_and_its_split(monkeypatch, shakespeare):
    monkeypatch.undo()
    found = load_corpus()
    assert found.name == "tiny Shakespeare"
    assert found.text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")
    assert [len(found.text), *map(len, split(found.text))] == [1_115_394, 1_003_854, 111_540]
