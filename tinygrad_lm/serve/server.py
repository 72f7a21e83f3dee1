"""The server: one thread a connection, and no more connections than it can answer."""

import socket
import socketserver
import sys
import threading
import traceback
from http.server import ThreadingHTTPServer
from importlib.resources import files

from tinygrad_lm.serve.handler import Handler
from tinygrad_lm.serve.inspection import Inspection

CONNECTIONS = 32  # at once


class Server(ThreadingHTTPServer):
    """Serves a Service at (host, port); port 0 takes a free one."""

    daemon_threads, request_queue_size = True, CONNECTIONS

    def __init__(self, service, host="127.0.0.1", port=0):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.service, self.host, self.free = service, host, threading.BoundedSemaphore(CONNECTIONS)
        look = Inspection(service)
        self.posts = {
            "/v1/completions": service.completions,
            "/v1/chat/completions": service.chat_completions,
            "/v1/inspect": look.text,
            "/v1/inspect/next": look.next,
        }
        web = files("tinygrad_lm.serve") / "web"
        self.files = {f"/{file.name}": (file.read_bytes(), file.name.rpartition(".")[2]) for file in web.iterdir()}
        self.files["/"] = self.files.pop("/page.html")
        super().__init__((host, port), Handler)

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask the network for this machine's name
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}"

    def process_request(self, request, client_address):
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()
