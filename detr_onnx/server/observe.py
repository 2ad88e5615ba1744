"""What is noted about each request: an id, a line in the access log, counts and times for Prometheus.

Also how an answer ends: a body that nobody read is read out for a while, so that the answer reaches who still sends it.
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
CLIENT_GONE = 499  # nginx's status for a client that did not wait
LINGER_S, LINGER_BYTES = 30.0, 1 << 26  # of reading what nobody wants, so that the refusal is not lost by a reset
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass
class RequestRecord:
    """What is known of one request, for the log and the metrics.

    Attributes:
        id: the client's own X-Request-Id if it is a plain word, else a new one.
        route: its template, so that names in paths do not multiply the metrics.
        code: of the envelope, 0 for success.
    """

    id: str
    route: str = "none"
    code: int = 0
    status: int = CLIENT_GONE
    received: int = 0
    sent: int = 0
    timing: Timing = field(default_factory=Timing)


class Metrics:
    """Counts and times, of this process or of all workers together."""

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
            "detr_pending_requests", "Requests that wait or are worked on.", registry=self.registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def note(self, note: RequestRecord, seconds: float) -> None:
        """Counts one request."""
        self.requests.labels(note.route, str(note.status), str(note.code)).inc()
        self.seconds.labels(note.route).observe(seconds)
        if note.timing.network:
            for stage, value in vars(note.timing).items():
                self.stages.labels(stage).observe(value)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._all)


class RequestLogMiddleware:
    """The application with its requests noted.

    Attributes:
        draining: whether the process is about to end; then every answer closes its connection.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, access_log: bool) -> None:
        self._app, self._metrics, self._access_log = app, metrics, access_log
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        note = RequestRecord(_request_id(scope))
        scope.setdefault("state", {})["note"] = note
        body = _Body(receive, note, announced=_has_body(scope))
        try:
            await self._app(scope, body.receive, self._sending(send, body, note))
        except ClientDisconnect:  # nobody is left to answer
            note.status = CLIENT_GONE
        finally:
            seconds = time.perf_counter() - started
            self._metrics.note(note, seconds)
            if self._access_log:
                _log(scope, note, seconds)

    def _sending(self, send: Send, body: _Body, note: RequestRecord) -> Send:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                note.status = message["status"]
                headers = [(b"x-request-id", note.id.encode()), (b"cf-ai-req-id", note.id.encode())]
                if self.draining or not body.complete:
                    headers.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", []), *headers]
                await send(message)
                return
            note.sent += len(message.get("body", b""))
            if body.complete or message.get("more_body"):
                await send(message)
                return
            await send({**message, "more_body": True})
            await body.discard()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return noted


class _Body:
    """The body of a request as it comes in."""

    def __init__(self, receive: Receive, note: RequestRecord, *, announced: bool) -> None:
        self._receive, self._note = receive, note
        self.complete = not announced

    async def receive(self) -> Message:
        message = await self._receive()
        self._note.received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True
        return message

    async def discard(self) -> None:
        """Reads the rest and forgets it."""
        with anyio.move_on_after(LINGER_S):
            while not self.complete and self._note.received < LINGER_BYTES:
                await self.receive()


def _has_body(scope: Scope) -> bool:
    """Whether the headers announce one [RFC 9112, section 6.3]."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if ID_FROM_CLIENT.fullmatch(given) else str(uuid.uuid4())


def _log(scope: Scope, note: RequestRecord, seconds: float) -> None:
    """One JSON line on stderr; times in milliseconds."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": note.id,
        "client": (scope.get("client") or ("", 0))[0],
        "method": scope["method"],
        "path": scope["path"],
        "status": note.status,
        "code": note.code,
        "ms": round(seconds * 1e3, 1),
        "bytes_in": note.received,
        "bytes_out": note.sent,
        **{f"{stage}_ms": round(value * 1e3, 1) for stage, value in vars(note.timing).items()},
    }
    with contextlib.suppress(OSError, ValueError):  # a log that nobody takes stops no request
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
