"""Watch a run in a browser while it trains: its curves, speed, samples, and what the doctor says of its log.

It only reads the run's folder, and listens on this machine alone.
"""

import json
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Lock

from tinygrad_lm.errors import ConfigError, TinygradError
from tinygrad_lm.learn.watch.feed import Feed

HOST = "127.0.0.1"
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"


def add_arguments(parser):
    parser.add_argument("run", metavar="RUN", help="the folder of a run, which may be training")
    parser.add_argument("--port", type=int, default=8010, help="0 takes a free one [8010]")


def watch_run(args):
    """Serve the page until Ctrl-C. Returns the exit status."""
    with listening(Feed(args.run), args.port) as server:
        print(f"{args.run}: open http://{HOST}:{server.server_port} in a browser; Ctrl-C ends.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nThe run goes on.")
    return 0


def listening(feed, port):
    """The server. ConfigError if it cannot listen there."""
    if not 0 <= port < 2**16:
        raise ConfigError(f"watch: --port must be from 0 to 65535, found {port}")
    page = (files("tinygrad_lm.learn.watch") / "web" / "watch.html").read_bytes()
    try:
        return ThreadingHTTPServer((HOST, port), partial(Handler, feed, page, Lock()))
    except OSError as error:
        raise ConfigError(f"watch: cannot listen on port {port}: {error.strerror}; choose another --port") from None


class Handler(BaseHTTPRequestHandler):
    """Answers GET / with the page, and GET /run.json with what the feed has now."""

    def __init__(self, feed, page, reading, *others):
        self.feed, self.page, self.reading = feed, page, reading
        super().__init__(*others)

    def do_GET(self):
        here = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if self.headers.get("Host") not in here:  # a page from elsewhere that has pointed its name here
            self.answer(HTTPStatus.FORBIDDEN, "text/plain", b"this page is for its own machine")
        elif self.path == "/":
            self.answer(HTTPStatus.OK, "text/html; charset=utf-8", self.page)
        elif self.path == "/run.json":
            self.answer(HTTPStatus.OK, "application/json", json.dumps(self.now()).encode())
        else:
            self.answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is / and /run.json")

    def now(self):
        try:
            with self.reading:
                return self.feed()
        except (TinygradError, ValueError, OSError) as error:
            return {"problem": str(error)}

    def answer(self, status, kind, content):
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": len(content), "Cache-Control": "no-store"}
        for name, value in (headers | {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        """Nothing: a page that asks every two seconds would fill the terminal."""
