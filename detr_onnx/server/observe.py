"""A record of each request: its id, a line in the access log, counts and times for Prometheus.

A response to a request whose body was not read ends with reading that body for a while. Otherwise the connection would
be reset, and a client that is still sending would not see the response.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import ClientDisconnect

from detr_onnx.server.inference import Timing

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ID_FROM_CLIENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_GONE = 499  # nginx's status for a client that disconnected before the response
LINGER_S, LINGER_BYTES = 30.0, 1 << 26  # limits on reading a body after the response
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass
class RequestRecord:
    """One request, for the log and the metrics.

    Attributes:
        id: the client's X-Request-Id if it is a plain word, else a new one.
        route: the template of the path, so that names in paths do not multiply the metrics.
        code: the error code of the response, 0 for success.
        received, sent: bytes of the bodies.
    """

    id: str
    route: str = "none"
    code: int = 0
    status: int = CLIENT_GONE
    received: int = 0
    sent: int = 0
    timing: Timing = field(default_factory=Timing)


class Metrics:
    """Counts and times of this process, or of all workers together."""

    def __init__(self, *, of_all_workers: bool) -> None:
        self.registry = CollectorRegistry()
        self._all = CollectorRegistry() if of_all_workers else self.registry
        if of_all_workers:
            MultiProcessCollector(self._all)  # type: ignore[no-untyped-call]
        labels = ["route", "status", "code"]
        self.requests = Counter("detr_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "detr_request_seconds", "Time of a request.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "detr_stage_seconds", "Time of a stage: queue, decode, network.", ["stage"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.pending = Gauge(
            "detr_pending_requests", "Requests that wait or are processed.", registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def add(self, record: RequestRecord, seconds: float) -> None:
        """Counts one request."""
        self.requests.labels(record.route, str(record.status), str(record.code)).inc()
        self.seconds.labels(record.route).observe(seconds)
        if record.timing.network:
            for stage, value in vars(record.timing).items():
                self.stages.labels(stage).observe(value)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._all)


class RequestLogMiddleware:
    """Keeps a record of each request of the application.

    Attributes:
        draining: whether the server is shutting down; then every response closes its connection.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, access_log: bool) -> None:
        self._app, self._metrics, self._access_log = app, metrics, access_log
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        record = RequestRecord(_request_id(scope))
        scope.setdefault("state", {})["record"] = record
        body = _Body(receive, record, announced=_has_body(scope))
        try:
            await self._app(scope, body.receive, self._sending(send, body, record))
        except ClientDisconnect:
            record.status = CLIENT_GONE
        finally:
            seconds = time.perf_counter() - started
            self._metrics.add(record, seconds)
            if self._access_log:
                _log(scope, record, seconds)

    def _sending(self, send: Send, body: _Body, record: RequestRecord) -> Send:
        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = [(b"x-request-id", record.id.encode())]
                if self.draining or not body.complete:
                    headers.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *headers]
                await send(message)
                return
            record.sent += len(message.get("body", b""))
            if body.complete or message.get("more_body"):
                await send(message)
                return
            await send({**message, "more_body": True})
            await body.discard()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return recording


class _Body:
    """The body of a request as it comes in."""

    def __init__(self, receive: Receive, record: RequestRecord, *, announced: bool) -> None:
        self._receive, self._record = receive, record
        self.complete = not announced

    async def receive(self) -> Message:
        message = await self._receive()
        self._record.received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True
        return message

    async def discard(self) -> None:
        """Reads the rest of the body and drops it."""
        with anyio.move_on_after(LINGER_S):
            while not self.complete and self._record.received < LINGER_BYTES:
                await self.receive()


def _has_body(scope: Scope) -> bool:
    """Whether the headers announce a body [RFC 9112, section 6.3]."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _request_id(scope: Scope) -> str:
    received = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return received if ID_FROM_CLIENT.fullmatch(received) else str(uuid.uuid4())


def _log(scope: Scope, record: RequestRecord, seconds: float) -> None:
    """One JSON line on stderr; times in milliseconds."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": record.id,
        "client": (scope.get("client") or ("", 0))[0],
        "method": scope["method"],
        "path": scope["path"],
        "status": record.status,
        "code": record.code,
        "ms": round(seconds * 1e3, 1),
        "bytes_in": record.received,
        "bytes_out": record.sent,
        **{f"{stage}_ms": round(value * 1e3, 1) for stage, value in vars(record.timing).items()},
    }
    with contextlib.suppress(OSError, ValueError):  # a closed stderr must not fail requests
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
