"""A server on a free loopback port, in a thread, with a minimal client.

with LiveServer(detector, queue=2) as server:
    answer = server.post(RUN, image)
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from detr_onnx import Detector
from detr_onnx.server.app import application
from detr_onnx.server.run import uvicorn_server
from detr_onnx.server.settings import Settings

RUN = "/client/v4/accounts/0123456789abcdef/ai/run/@cf/facebook/detr-resnet-50"
PATIENCE_S = 120  # build machines are slow


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, int, str]:
        """Status, code and message of an error in the hosted API's envelope, whose form is checked."""
        assert set(self.json) == {"result", "success", "errors", "messages"}
        assert self.json["success"] is False
        (error,) = self.json["errors"]
        return self.status, error["code"], error["message"]


class LiveServer:
    """The server; its keywords are those of `Settings`."""

    def __init__(self, detector: Detector, **settings: Any) -> None:
        self.settings = Settings(lambda: detector, "demo", **{"access_log": False, **settings})
        self.app, self.service = application(self.settings, detector)
        self.server = uvicorn_server(self.settings, self.app)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self._listener])))

    def __enter__(self) -> LiveServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.should_exit = True
        self._thread.join()
        self.service.inference.close()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=_dashed(headers))

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        return self.ask("POST", path, body, _dashed(headers))

    def post_json(self, path: str, value: Any, **headers: str) -> Answer:
        return self.post(path, json.dumps(value).encode(), content_type="application/json", **headers)

    def raw(self) -> socket.socket:
        """A connection to write any bytes to."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Waits until the condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)
