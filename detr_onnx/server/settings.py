"""How a server is set up: what it listens on, what it lets in, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detr_onnx import defaults
from detr_onnx.detector import Detector, check_threshold
from detr_onnx.errors import UsageError

MB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """All of it can be pickled, for the processes of `workers`.

    Attributes:
        open_detector: gives the detector; called once in each process.
        model: what the detector's model is called, for the answers.
        host, port: what it listens on; port 0 is any that is free.
        token: what requests have to present; None lets everybody in.
        threshold: of the hosted API's form.
        workers: processes, each with a detector of its own.
        max_body: of a request, in bytes.
        max_held: bytes of all the bodies that one process holds at a time.
        max_pixels: of an image, told from its header before it is decoded.
        queue: requests that may wait in one process; more are answered with 429.
        timeout_s: for the whole of a request; half of it at most for its body to come in.
        max_batch: images of the same size that go through the network together.
        idle_s: after which a connection without a request is closed, and one with half a header.
        drain_s: how long after SIGTERM open connections may still send a request.
        access_log: a JSON line on stderr for each request.
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
    idle_s: float = 15.0
    drain_s: float = 1.0
    access_log: bool = True

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        least = {"workers": 1, "max_body": 1, "max_pixels": 1, "queue": 0, "max_batch": 1, "port": 0}
        wrong = {name: getattr(self, name) for name, low in least.items() if getattr(self, name) < low}
        if self.timeout_s <= 0:
            wrong["timeout_s"] = self.timeout_s
        if self.port > 65535:
            wrong["port"] = self.port
        if wrong:
            found = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in wrong.items())
            raise UsageError(
                "the server cannot be set up like this", found=found, expected="larger numbers, port ≤ 65535"
            )
        if self.token is not None and not self.token.strip():
            raise UsageError("the token is empty", remedy="give one, or none for a server that lets everybody in")
