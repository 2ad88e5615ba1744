"""The settings of a server: address, access and limits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detr_onnx import defaults
from detr_onnx.arguments import check_threshold
from detr_onnx.detector import Detector
from detr_onnx.errors import UsageError
from detr_onnx.server.access import is_token

MB = 1 << 20
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+")


@dataclass(frozen=True)
class Settings:
    """The settings of a server. They can be pickled, for the processes of `workers`.

    Attributes:
        open_detector: returns the detector; called once in each process.
        model: the name of the detector's model.
        host, port: the address to listen on; port 0 is any free one.
        token: the token that requests must send; None accepts every request.
        threshold: default of the hosted API's form and of KServe.
        workers: number of processes, each with a detector of its own.
        max_body: size limit of a request's body, in bytes.
        max_held: limit on all bodies that one process holds at a time, in bytes.
        max_pixels: limit on an image, read from its header before it is decoded.
        queue: requests that may wait in one process; further ones get 429.
        timeout_s: time limit of a request; its body must arrive in half of it.
        max_batch: images of the same size that go through the network together.
        unix_socket: path of a unix socket to listen on, in place of host and port.
        cors_origins: origins whose pages may use the server from a browser; "*" for all.
        drain_delay_s: how long after SIGTERM new connections are still accepted while /readyz says 503.
        idle_s: a connection without a complete request header is closed after this time.
        drain_s: how long after that open connections may still send a request.
        access_log: whether each request is logged as a JSON line on stderr.
    """

    open_detector: Callable[[], Detector]
    model: str
    host: str = defaults.SERVER_HOST
    port: int = defaults.SERVER_PORT
    token: str | None = None
    threshold: float = defaults.API_THRESHOLD
    workers: int = defaults.SERVER_WORKERS
    max_body: int = defaults.SERVER_MAX_BODY_MB * MB
    max_held: int = 256 * MB
    max_pixels: int = round(defaults.SERVER_MAX_MEGAPIXELS * 1e6)
    queue: int = defaults.SERVER_QUEUE
    timeout_s: float = defaults.SERVER_TIMEOUT_S
    max_batch: int = defaults.SERVER_MAX_BATCH
    unix_socket: Path | None = None
    cors_origins: tuple[str, ...] = ()
    drain_delay_s: float = 0.0
    idle_s: float = 15.0
    drain_s: float = 1.0
    access_log: bool = True

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        lowest = {"workers": 1, "max_body": 1, "max_pixels": 1, "queue": 0, "max_batch": 1}
        wrong = {name: f"at least {low}" for name, low in lowest.items() if getattr(self, name) < low}
        if not 0 <= self.port <= 65535:
            wrong["port"] = "from 0 to 65535"
        if not 0 < self.timeout_s < math.inf:
            wrong["timeout_s"] = "a finite number above 0"
        if not 0 <= self.drain_delay_s < math.inf:
            wrong["drain_delay_s"] = "a finite number from 0 up"
        if wrong:
            options = {name: name.removesuffix("_s").replace("_", "-") for name in wrong}
            found = ", ".join(f"{option} {getattr(self, name)}" for name, option in options.items())
            expected = ", ".join(f"{option} {wrong[name]}" for name, option in options.items())
            raise UsageError("the server's settings are out of range", found=found, expected=expected)
        if self.token is not None and not is_token(self.token.strip()):
            remedy = "set another, or leave it out to accept every request"
            raise UsageError(
                "the token cannot be sent in a header", expected="printable ASCII without spaces", remedy=remedy
            )
        if wrong_origins := [origin for origin in self.cors_origins if not ORIGIN.fullmatch(origin)]:
            expected = 'scheme://host or scheme://host:port, or "*"'
            raise UsageError("--cors-origin is not an origin", found=", ".join(wrong_origins), expected=expected)
