"""One HTTP request and its answer, with limits for all that a client may do; each connection has one.

It answers only requests that name this machine as their host and come from its own page: a web page from elsewhere that
points its name at 127.0.0.1 (DNS rebinding), or sends a form, is refused. Files are those of web/, read at the start.
"""

import io
import ipaddress
import json
import select
import socket
import time
import traceback
from contextlib import closing, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tinygrad_lm.errors import ConfigError, DataError, TinygradError, TokenError
from tinygrad_lm.serve.fields import parse
from tinygrad_lm.serve.refusal import Refusal

BODY = 2**20  # bytes of a request
READ, WRITE = 10.0, 20.0  # seconds in which a request must have come, and what is written must be taken
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}


class Punctual(io.RawIOBase):
    """Reads a socket for at most `seconds` in all; then TimeoutError: no slow client keeps its thread for longer."""

    def __init__(self, connection, seconds):
        self.connection, self.until = connection, time.monotonic() + seconds

    def readable(self):
        return True

    def readinto(self, buffer):
        if (left := self.until - time.monotonic()) <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "tinygrad_lm", ""

    def setup(self):
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Punctual(self.connection, READ))

    def do_GET(self):
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def answer(self, method):
        """Send what a method sends, or why it cannot."""
        self.close_connection, self.begun = True, False
        try:
            try:
                self.check_source()
                method(urlsplit(self.path).path)
            except (ConfigError, DataError, TokenError) as error:
                raise Refusal(400, str(error)) from error
            except (ConnectionError, TimeoutError, Refusal):
                raise
            except Exception as error:
                traceback.print_exc()
                message = str(error) if isinstance(error, TinygradError) else "a mistake of the server's"
                raise Refusal(500, message) from error
        except Refusal as refusal:
            self.refuse(refusal)

    def check_source(self):
        """Refuse a request that another web site may have caused."""
        host = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in ("localhost", self.server.host.lower()) and not is_address(name):
            message = f"the Host header must name this machine, such as localhost or its address; found {host[:100]!r}"
            raise Refusal(403, message, code="wrong_host")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise Refusal(403, "requests from other web sites are refused", code="wrong_origin")

    def get(self, path):
        service = self.server.service
        if path in self.server.files:
            content, suffix = self.server.files[path]
            self.send(HTTPStatus.OK, content, f"{TYPES[suffix]}; charset=utf-8")
        elif path == "/v1/models":
            self.send_json(service.models())
        elif path.removeprefix("/v1/models/") == service.name:
            self.send_json(service.card())
        else:
            raise self.not_here(path, self.server.posts)

    def post(self, path):
        if path not in self.server.posts:
            raise self.not_here(path, self.server.files)
        answer = self.server.posts[path](parse(self.body()), self.gone)
        if isinstance(answer, dict):
            self.send_json(answer)
        else:
            with closing(answer):
                self.send_events(answer)

    def not_here(self, path, others):
        if path in others or path == "/v1/models":
            allowed = {"Allow": "POST" if self.command == "GET" else "GET"}
            return Refusal(405, f"{path[:200]} needs {allowed['Allow']}", None, "wrong_method", allowed)
        return Refusal(404, f"{path[:200]} is not here", code="not_found")

    def body(self):
        """The bytes of a request's JSON."""
        if self.headers.get_content_type() != "application/json":
            raise Refusal(415, "the Content-Type must be application/json", code="wrong_type")
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise Refusal(411, "a request needs a Content-Length", code="no_length")
        if len(length) > 12 or int(length) > BODY:
            raise Refusal(413, f"a request has at most {BODY:,} bytes, found {length[:12]}", code="too_large")
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            raise Refusal(408, f"the request did not come within {READ:g} seconds", code="too_slow") from None
        if len(body) < int(length):
            raise ConnectionError("the request is not whole")
        return body

    def gone(self):
        """Whether the client has closed the connection. It has nothing more to send, so what can be read is the end."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def send_events(self, events):
        """Server-sent events. The first is computed before anything is sent, so that an error has its status."""
        first = next(events)
        self.begin(HTTPStatus.OK, {"Content-Type": "text/event-stream; charset=utf-8"})
        self.send_event(first)
        for event in events:
            self.send_event(event)
        self.wfile.write(b"data: [DONE]\n\n")

    def send_event(self, content):
        self.wfile.write(b"data: " + to_json(content) + b"\n\n")

    def send_json(self, content, status=HTTPStatus.OK, headers=()):
        self.send(status, to_json(content), "application/json", headers)

    def send(self, status, content, type, headers=()):
        self.begin(status, {"Content-Type": type, "Content-Length": str(len(content))} | dict(headers))
        self.wfile.write(content)

    def begin(self, status, headers):
        self.connection.settimeout(WRITE)
        self.begun = True
        self.send_response(status)
        for name, value in (HEADERS | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def refuse(self, refusal):
        """Send an error; within a stream, as its last event.

        What the client still sends is read: a connection that is closed before would take the error with it.
        """
        if self.begun:
            self.send_event(refusal.form)
            return
        self.send_json(refusal.form, refusal.status, refusal.headers)
        with suppress(OSError):  # it may have gone, or be slow
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(64):
                if not self.rfile.read1(BODY):
                    return

    def send_error(self, code, message=None, explain=None):
        """What the base class cannot read, in the same form as all other errors."""
        self.close_connection, self.begun = True, False
        self.refuse(Refusal(code, message or HTTPStatus(code).phrase, code="not_http"))

    def log_message(self, format, *args):
        """One line a request for the model, none for the page's files."""
        if getattr(self, "command", None) == "POST":
            super().log_message(format, *args)


def is_address(name):
    """Whether a host is an IP address: no name server has a say in where it leads."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def to_json(content):
    return json.dumps(content, allow_nan=False).encode()
