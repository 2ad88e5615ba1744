"""A stand-in for a company's HTTP proxy on the loopback interface: every host is one server of this machine.

with StandInProxy(target_port) as proxy:
    proxy.url, proxy.requests
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler

from tests.quiet_http import Quiet, QuietServer


class StandInProxy(QuietServer):
    """The proxy.

    Args:
        target_port: of the server that every request and tunnel leads to.
        credentials: the header Proxy-Authorization that it demands; empty for none.

    Attributes:
        requests: method and target of each request, in the order of their arrival.
    """

    daemon_threads = True

    def __init__(self, target_port: int, credentials: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port, self.credentials = target_port, credentials
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: StandInProxy

    def do_CONNECT(self) -> None:
        if not self._is_allowed():
            return
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", self.server.target_port)) as target:
            back = threading.Thread(target=_relay, args=(target, self.connection), daemon=True)
            back.start()
            _relay(self.connection, target)
            back.join()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_allowed():
            return
        target = http.client.HTTPConnection("127.0.0.1", self.server.target_port)
        headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
        target.request("POST", self.path, body, headers)
        with contextlib.closing(target), target.getresponse() as response:
            content = response.read()
            self._respond(response.status, content)

    def _is_allowed(self) -> bool:
        self.server.requests.append(f"{self.command} {self.path}")
        allowed = self.headers.get("Proxy-Authorization", "") == self.server.credentials
        if not allowed:
            self._respond(407, b"")
        return allowed

    def _respond(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
