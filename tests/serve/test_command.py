"""`python -m tinygrad_lm.serve`: where it listens, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest
from small_run import status

from tinygrad_lm.serve import __main__ as program
from tinygrad_lm.serve.server import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(run, monkeypatch, capsys):
    """A function that starts the server with options and ends it with Ctrl-C; returns its status, and what it said."""

    def interrupted(self):
        servers.append(self)
        raise KeyboardInterrupt

    def start(*options):
        found = status(program.main, run, "--port", 0, *options)
        return found, *capsys.readouterr()

    servers = start.servers = []
    monkeypatch.setattr(Server, "serve_forever", interrupted)
    return start


def test_it_says_where_it_is_and_ends_politely(started):
    found, out, err = started("--waiting", 3, "--tokens", 7)
    assert (found, err) == (0, "")
    model, where, *end = out.splitlines()
    assert re.fullmatch(r"run: [\d,]+ parameters, a context of 64 tokens", model)
    assert re.fullmatch(r"Open http://127.0.0.1:\d+ in a browser; Ctrl-C ends.", where)
    assert end == ["", "Goodbye."]
    (server,) = started.servers
    assert server.server_address[0] == "127.0.0.1"
    assert (server.service.name, server.service.trained) == ("run", True)
    assert (server.service.line.waiting, server.service.tokens) == (3, 7)
    assert server.fileno() == -1  # closed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_address_that_others_can_reach_must_be_asked_for(host, started):
    found, _, err = started("--host", host)
    assert (found, started.servers) == (2, [])
    assert f"--host {host} can be reached from other machines" in err
    assert "--public" in err


def test_an_address_that_others_can_reach_is_warned_of(started):
    found, _, err = started("--host", "0.0.0.0", "--public")
    assert found == 0
    assert err == "warning: 0.0.0.0 can be reached from other machines; there is no password, no encryption\n"
    assert started.servers[0].server_address[0] == "0.0.0.0"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_addresses_of_this_machine_need_no_asking(host, started):
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine cannot listen on {host}")
    found, out, err = started("--host", host)
    assert (found, err) == (0, "")
    assert f"http://{f'[{host}]' if ':' in host else host}:" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", 70000], "--port must be from 0 to 65535, found 70000"),
        (
            ["--tokens", 0, "--waiting", -1],
            "--tokens must be at least 1, found 0; --waiting must be at least 0, found -1",
        ),
        (["--host", "192.0.2.1", "--public"], "cannot listen on 192.0.2.1, port 0"),
        (["--host", "no such host", "--public"], "cannot listen on no such host, port 0"),
    ],
)
def test_wrong_options(options, message, started):
    found, _, err = started(*options)
    assert found == 2
    assert message in err


def test_a_port_that_is_taken(started):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found, _, err = started("--port", port)
    assert (found, f"cannot listen on 127.0.0.1, port {port}: Address already in use" in err) == (2, True)


# python -m tinygrad_lm.serve, waiting an hour for a request; and Ctrl-C reaches it in the background of a shell, too
PATIENT = """
import runpy, signal
from tinygrad_lm.serve import handler
signal.signal(signal.SIGINT, signal.default_int_handler)
handler.READ = 3600.0
runpy.run_module("tinygrad_lm.serve", run_name="__main__", alter_sys=True)
"""


def test_a_process_of_its_own(run):
    command = [sys.executable, "-c", PATIENT, str(run), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process,
        ExitStack() as ends,
    ):
        ends.callback(process.kill)  # or a failure would wait for it
        process.stdout.readline()
        port = int(re.search(r":(\d+) ", process.stdout.readline())[1])
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/v1/models")
        assert b'"id": "run"' in connection.getresponse().read()
        connection.close()
        idle = socket.create_connection(("127.0.0.1", port))  # a client that says nothing holds nothing up
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=100) == ("\nGoodbye.\n", "")
        idle.close()
    assert process.returncode == 0
