"""A stand-in of the hosted API on the loopback interface: it says what it is told to, then finds one cat.

with StandInFarSide(refusal(429, 3040), hang_up) as far:
    far.url, far.requests
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

CAT = {"score": 0.75, "label": "cat", "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 20}}


@dataclass(frozen=True)
class Scripted:
    """An answer; a status of 0 hangs up without one."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def found(*items: dict[str, Any]) -> Scripted:
    """A success of the hosted API."""
    return Scripted(200, json.dumps({"result": items, "success": True, "errors": [], "messages": []}).encode())


def refusal(status: int, code: int, message: str = "no", **headers: str) -> Scripted:
    """A refusal of the hosted API; `Retry_After` is the header Retry-After."""
    fields = {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Scripted(status, json.dumps(fields).encode(), named)


HANG_UP = Scripted(0, b"")


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class StandInFarSide:
    """The server.

    Args:
        script: the first answers, one a request.
        then: all others; or a function of the request.
        delay_s: before each answer.

    Attributes:
        requests: as they came.
    """

    def __init__(
        self, *script: Scripted, then: Scripted | Callable[[Request], Scripted] | None = None, delay_s: float = 0
    ) -> None:
        self.requests: list[Request] = []
        self.delay_s = delay_s
        self._script, self._then, self._lock = list(script), then or found(CAT), threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/client/v4"

    def answer(self, request: Request) -> Scripted:
        with self._lock:
            self.requests.append(request)
            scripted = self._script.pop(0) if self._script else self._then
        return scripted if isinstance(scripted, Scripted) else scripted(request)

    def __enter__(self) -> StandInFarSide:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, far: StandInFarSide) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.far = far

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        scripted = self.server.far.answer(Request(self.path, headers, body))
        time.sleep(self.server.far.delay_s)
        if not scripted.status:
            self.close_connection = True
            return
        self.send_response(scripted.status)
        for name, value in {"Content-Length": str(len(scripted.body)), **scripted.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(scripted.body)
