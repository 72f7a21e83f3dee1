"""Requests that should not be: each ends in an error, and the server answers the next one."""

import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from small_chats import turns
from small_service import ask, post, serving, small_service

from tinygrad_lm.serve import handler
from tinygrad_lm.serve import server as server_module

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def service():
    return small_service()


@pytest.fixture(scope="module")
def server(service):
    with serving(service) as server:
        yield server


@pytest.fixture(autouse=True)
def unharmed(server, capfd):
    """After each test the server answers, no request is in line, and nothing was a mistake of the server's."""
    yield
    assert post(server, TEXT, prompt="a", max_tokens=1)["choices"]
    assert not server.service.line.line
    assert "Traceback" not in capfd.readouterr().err


def raw(server, text, wait=True):
    """What a server answers to bytes, as text."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(text)
        return connection.makefile("rb").read().decode() if wait else ""


def error(answer):
    """(status, code) of an answer that is an error in OpenAI's form."""
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


BODIES = {
    "no JSON": (b"{", 400),
    "nothing": (b"", 400),
    "not an object": (b"[1]", 400),
    "not a number": (b'{"prompt": "a", "temperature": NaN}', 400),
    "an infinite one": (b'{"prompt": "a", "temperature": 1e999}', 400),
    "not UTF-8": (b'{"prompt": "\xff"}', 400),
    "very deep": (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "a very long number": (b'{"prompt": ' + b"9" * 100_000 + b"}", 400),
    "too large": (b'{"prompt": "' + b"a" * 2**20 + b'"}', 413),
    "much too large": (b'{"prompt": "' + b"a" * 2**23 + b'"}', 413),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name, server):
    content, expected = BODIES[name]
    status, answer, _ = ask(server, "POST", TEXT, content)
    assert (status, list(answer)) == (expected, ["error"])


def test_a_body_of_many_messages_costs_little(server, monkeypatch):
    messages = [*turns("a", "b") * 127, *turns("a")]
    assert ask(server, "POST", CHAT, {"messages": messages + messages})[0] == 400
    rendered = []
    prompt = type(server.service.chat).prompt
    monkeypatch.setattr(type(server.service.chat), "prompt", lambda *args: rendered.append(1) or prompt(*args))
    answer = post(server, CHAT, messages=messages, truncation="auto", max_tokens=1)
    assert answer["usage"]["prompt_tokens"] <= 63
    assert len(rendered) < 12


HEADS = {
    "no Content-Length": ("Content-Type: application/json\r\n", 411, "no_length"),
    "a negative length": ("Content-Type: application/json\r\nContent-Length: -5\r\n", 411, "no_length"),
    "a length in other digits": ("Content-Type: application/json\r\nContent-Length: ²\r\n", 411, "no_length"),
    "an endless length": (f"Content-Type: application/json\r\nContent-Length: {'9' * 5000}\r\n", 413, "too_large"),
    "chunks": ("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", 411, "no_length"),
    "a form": ("Content-Type: text/plain\r\nContent-Length: 2\r\n", 415, "wrong_type"),
    "no type": ("Content-Length: 2\r\n", 415, "wrong_type"),
    "another site's page": ("Origin: http://evil.example\r\nContent-Length: 2\r\n", 403, "wrong_origin"),
    "a file's page": ("Origin: null\r\nContent-Length: 2\r\n", 403, "wrong_origin"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads(name, server):
    head, *expected = HEADS[name]
    request = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{{}}"
    assert error(raw(server, request.encode("latin-1"))) == tuple(expected)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "a b"])
@pytest.mark.parametrize("path", ["/", "/v1/models"])
def test_a_name_that_is_not_this_machines_is_refused(path, host, server):
    """DNS rebinding: the page of a site whose name is made to lead here is of the same origin to a browser."""
    status, answer, _ = ask(server, "GET", path, Host=host)
    assert (status, answer["error"]["code"]) == (403, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "192.168.0.7"])
def test_names_of_this_machine(host, server):
    assert ask(server, "GET", "/v1/models", Host=host)[0] == 200


def test_a_request_without_a_host_is_refused(server):
    assert error(raw(server, b"GET / HTTP/1.0\r\n\r\n")) == (403, "wrong_host")


PATHS = [
    "/../server.py", "/..%2fserver.py", "/%2e%2e/server.py", "/web/page.html", "//etc/passwd", "/style.css/..",
    "/page.html", "/etc/passwd", "/__init__.py", "/style.css\x00", "/v1/models/../x", "/v1/models/", "/" + "a" * 9999,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_other_file_is_to_be_had(path, server):
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert error(answer) == (404, "not_found")


def test_files_of_the_page(server):
    for path, kind in {"/": "text/html", "/style.css": "text/css", "/app.js": "text/javascript"}.items():
        status, text, headers = ask(server, "GET", path)
        assert (status, headers.get_content_type(), bool(text)) == (200, kind, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/", 405), ("GET", CHAT, 405), ("OPTIONS", CHAT, 501), ("PUT", "/", 501), ("POST", "/v1/files", 404)],
)
def test_methods(method, path, status, server):
    found, answer, headers = ask(server, method, path, {} if method == "POST" else None)
    assert (found, list(answer)) == (status, ["error"])
    assert (headers["Allow"] is not None) == (status == 405)
    assert headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("text", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http(text, server):
    assert '{"error": ' in raw(server, text)


def test_very_many_and_very_long_headers(server):
    head = f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'a' * 70_000}\r\n\r\n"
    assert error(raw(server, head.encode()))[0] == 431
    head = "GET / HTTP/1.1\r\nHost: localhost\r\n" + "X: 1\r\n" * 200 + "\r\n"
    assert error(raw(server, head.encode()))[0] == 431


# ---- clients that do not do their part


HEAD = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


def test_a_slow_client_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(handler, "READ", 0.2)
    assert error(raw(server, HEAD + b"Content-Length: 100\r\n\r\n ")) == (408, "too_slow")


def test_the_time_for_a_whole_request_is_limited(monkeypatch):
    """However often a client sends something."""
    now = 0
    monkeypatch.setattr(handler, "time", SimpleNamespace(monotonic=lambda: now))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        request = handler.Punctual(ours, 10)
        for now in range(1, 10):  # noqa: B007
            theirs.sendall(b" ")
            assert request.read(1) == b" "
        now = 10
        theirs.sendall(b" ")
        with pytest.raises(TimeoutError):
            request.read(1)


def test_a_client_that_says_nothing_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(handler, "READ", 0.2)
    assert raw(server, b"GET / HT") == ""


def test_a_client_that_goes_in_the_middle_of_its_request(server):
    raw(server, HEAD + b'Content-Length: 100\r\n\r\n{"prompt": ', wait=False)
    raw(server, HEAD, wait=False)


@pytest.fixture
def slow(service, monkeypatch):
    """The model waits for `let` before each token; `steps` has one entry a token."""
    let, steps = threading.Event(), []
    forward = type(service.model).forward

    def waiting(*arguments):
        steps.append(1)
        assert let.wait(20)
        return forward(*arguments)

    monkeypatch.setattr(type(service.model), "forward", waiting)
    monkeypatch.setattr(service.chat, "ends", frozenset())
    yield let, steps
    let.set()


def begin(server, **content):
    """The connection of a request that was sent, and is not answered yet."""
    body = json.dumps({"prompt": "a", "max_tokens": 40} | content).encode()
    connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=60)
    connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_stops_the_answer(stream, server, slow):
    let, steps = slow
    connection = begin(server, stream=stream)
    until(lambda: steps)
    connection.close()
    let.set()
    until(lambda: not server.service.line.line)
    assert len(steps) < 5


def test_a_client_that_hangs_up_leaves_the_line(server, slow):
    let, steps = slow
    first = begin(server)
    until(lambda: steps)
    second = begin(server)
    until(lambda: len(server.service.line.line) == 2)
    second.close()
    until(lambda: len(server.service.line.line) == 1)
    let.set()
    assert b'"choices"' in first.makefile("rb").read()
    first.close()
    assert len(steps) == 40


def test_more_than_can_wait_are_sent_away(server, slow):
    let, _ = slow
    waiting = [begin(server) for _ in range(3)]
    until(lambda: len(server.service.line.line) == 3)
    status, answer, headers = ask(server, "POST", TEXT, {"prompt": "a", "stream": True})
    assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "busy", "5")
    let.set()
    for connection in waiting:
        assert b"200 OK" in connection.makefile("rb").read()
        connection.close()


def test_no_more_connections_than_can_be_answered(service):
    with serving(service) as server:
        idle = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(server_module.CONNECTIONS)]
        until(lambda: server.free._value == 0)
        with pytest.raises(ConnectionError):
            ask(server, "GET", "/v1/models")
        for connection in idle:
            connection.close()
        until(lambda: server.free._value == server_module.CONNECTIONS)
        assert ask(server, "GET", "/v1/models")[0] == 200


def test_a_mistake_within_a_stream_is_its_last_event(server, service, monkeypatch, capfd):
    forward, calls = type(service.model).forward, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return forward(*arguments)

    monkeypatch.setattr(type(service.model), "forward", broken)
    _, text, _ = ask(server, "POST", TEXT, {"prompt": "a", "stream": True})
    *pieces, last, _ = text.split("\n\n")
    assert "choices" in json.loads(pieces[0].removeprefix("data: "))
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "a mistake of the server's"
    calls[:] = [1, 1]
    status, answer, _ = ask(server, "POST", TEXT, {"prompt": "a"})
    assert (status, answer["error"]["type"]) == (500, "server_error")
    assert "ZeroDivisionError" in capfd.readouterr().err  # for whoever runs the server
