"""A stand-in for the hosted API on the loopback interface: scripted responses first, then one cat for each image.

with StandInRemote(refusal(429, 3040), HANG_UP) as remote:
    remote.url, remote.requests
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.quiet_http import Quiet, QuietServer

CAT = {"score": 0.75, "label": "cat", "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 20}}


@dataclass(frozen=True)
class Scripted:
    """A response.

    Attributes:
        status: 0 closes the connection without a response.
        pause_s: between the headers and the body.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0


def success(*items: dict[str, Any], **headers: str) -> Scripted:
    """A success of the hosted API; `Server_Timing` is the header Server-Timing."""
    body = json.dumps({"result": items, "success": True, "errors": [], "messages": []}).encode()
    return Scripted(200, body, _named(headers))


def refusal(status: int, code: int, message: str = "no", **headers: str) -> Scripted:
    """An error of the hosted API; `Retry_After` is the header Retry-After."""
    fields = {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}
    return Scripted(status, json.dumps(fields).encode(), _named(headers))


def slow_transfer(response: Scripted, pause_s: float) -> Scripted:
    """The same, with a pause between headers and body."""
    return replace(response, pause_s=pause_s)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


HANG_UP = Scripted(0, b"")


@dataclass(frozen=True)
class Request:
    """A request as it was received."""

    path: str
    headers: dict[str, str]
    body: bytes


class StandInRemote:
    """The server.

    Args:
        script: the first responses, one for each request.
        then: all others; or a function of the request.
        delay_s: before each response.

    Attributes:
        requests: in the order of their arrival.
        most_at_once: how many requests there were at the same time.
    """

    def __init__(
        self, *script: Scripted, then: Scripted | Callable[[Request], Scripted] | None = None, delay_s: float = 0
    ) -> None:
        self.requests: list[Request] = []
        self.delay_s = delay_s
        self.most_at_once = self._at_once = 0
        self._script, self._then, self._lock = list(script), then or success(CAT), threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/client/v4"

    def encrypt(self, host: str, certificate: Path) -> None:
        """Speaks TLS from now on, with a certificate of the host that is written to the file."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl makes the certificate")
        key = certificate.with_suffix(".key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-days", "2",
             "-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def respond(self, request: Request) -> Scripted:
        """The response to a request, after the delay."""
        with self._lock:
            self.requests.append(request)
            scripted = self._script.pop(0) if self._script else self._then
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay_s)
        with self._lock:
            self._at_once -= 1
        return scripted if isinstance(scripted, Scripted) else scripted(request)

    def __enter__(self) -> StandInRemote:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(QuietServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, remote: StandInRemote) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.remote = remote


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        scripted = self.server.remote.respond(Request(self.path, headers, body))
        if not scripted.status:
            self.close_connection = True
            return
        self.send_response(scripted.status)
        for name, value in {"Content-Length": str(len(scripted.body)), **scripted.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        time.sleep(scripted.pause_s)
        self.wfile.write(scripted.body)
