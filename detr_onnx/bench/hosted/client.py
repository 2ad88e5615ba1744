"""HTTP client for a remote detection API, with retries.

    encoded image ── Client.send ──► Reply: answered, refused or failed
                                     RemoteApiError: every image would be refused

It retries after 408, 429 and 5xx, with growing waits or as Retry-After says, and after nothing else. A request whose
response was lost may have been paid for, so the same run does not send it again.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from detr_onnx.bench.hosted.api import RemoteApi, RemoteApiError
from detr_onnx.bench.hosted.exchange import Connection, Exchange, Timing
from detr_onnx.bench.hosted.responses import ApiResponse, Items, is_allowance, parse_response
from detr_onnx.text import reason_of

LONGEST_ERROR = 300  # letters of the API's error message


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long, a request is retried.

    Attributes:
        retries: at most so many.
        first_s: the first wait in seconds; each wait is about twice the one before.
        longest_s: no wait is longer; a longer Retry-After ends the retries.
    """

    retries: int = 5
    first_s: float = 1.0
    longest_s: float = 120.0

    def wait_s(self, retried: int, retry_after_s: float | None) -> float | None:
        """Seconds until the next attempt after `retried` retries; None for no more."""
        if retried >= self.retries or (retry_after_s or 0) > self.longest_s:
            return None
        if retry_after_s is not None:
            return retry_after_s
        return min(self.longest_s, self.first_s * 2.0**retried * random.uniform(0.75, 1.25))


@dataclass(frozen=True)
class Reply:
    """The outcome of sending an image, after all retries.

    Attributes:
        outcome: "answered"; "refused": this image, permanently; "failed": another run may succeed.
        detections: in the API's form and order.
        ms: of the last attempt, from the request's first byte to the response's last; without opening the connection.
        error: status, code and message, unless answered.
        retried: status and code of each earlier attempt, such as "429/3040".
        timing: the phases of `ms`; None without a response.
    """

    outcome: str
    detections: Items = field(default_factory=list)
    ms: float = 0.0
    error: str = ""
    retried: tuple[str, ...] = ()
    timing: Timing | None = None


class Client:
    """Sends images over one connection that is kept open; for one thread.

    Args:
        remote: the API.
        retry_policy: how often to retry.
        stop: ends waits when set.
    """

    def __init__(self, remote: RemoteApi, retry_policy: RetryPolicy, stop: threading.Event) -> None:
        self.remote, self.retry_policy, self.stop = remote, retry_policy, stop
        self._connection: Connection | None = None

    def send(self, image: bytes) -> Reply:
        """Sends an encoded image, with retries.

        Raises:
            RemoteApiError: every image would be refused.
        """
        retried: list[str] = []
        while True:
            response, ms, timing = self._attempt(image)
            again = response.outcome == "retry"
            wait_s = self.retry_policy.wait_s(len(retried), response.retry_after_s) if again else None
            if wait_s is None or self.stop.wait(wait_s):
                return self._reply(response, ms, timing, tuple(retried))
            retried.append(response.name)

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _reply(self, response: ApiResponse, ms: float, timing: Timing | None, retried: tuple[str, ...]) -> Reply:
        error = f"{response.name} {response.message}".strip()
        if self.remote.token:  # some APIs repeat it
            error = error.replace(self.remote.token, "…")
        error = error[:LONGEST_ERROR]
        if response.outcome == "fatal":
            raise RemoteApiError(f"{self.remote.host} refuses requests", found=error, remedy=response.remedy)
        if response.outcome == "retry" and is_allowance(response.name):
            what = f"the daily allowance at {self.remote.host} is used up"
            raise RemoteApiError(what, found=error, remedy="run the same command again later: it resumes")
        outcome = "failed" if response.outcome == "retry" else response.outcome
        answered = outcome == "answered"
        return Reply(outcome, response.detections, round(ms, 2), "" if answered else error, retried, timing)

    def _attempt(self, image: bytes) -> tuple[ApiResponse, float, Timing | None]:
        """The response, its milliseconds and their phases."""
        body, headers = self.remote.request(image)
        started = time.perf_counter()
        try:
            exchange = self._exchange(body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a chunk of negative size
            self.close()
            response = ApiResponse("failed", "no response", f"{type(error).__name__}: {error}")
            return response, (time.perf_counter() - started) * 1e3, None
        retry_after_s = _retry_after_s(exchange.headers)
        response = parse_response(self.remote.dialect, exchange.status, exchange.body, retry_after_s)
        return response, exchange.timing.total_ms, exchange.timing

    def _exchange(self, body: bytes, headers: dict[str, str]) -> Exchange:
        """Sends the request; again on a new connection if the server had closed the idle one."""
        while True:
            idle = self._connection is not None and self._connection.is_open
            connection = self._connection if idle and self._connection is not None else self._connect()
            try:
                return connection.post(self.remote.path, body, headers)
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                self.close()
                if not idle:
                    raise

    def _connect(self) -> Connection:
        try:
            self._connection = Connection(self.remote)
        except (OSError, UnicodeError, http.client.HTTPException) as error:  # UnicodeError: no host can have this name
            what, remedy = f"cannot reach {urlsplit(self.remote.base_url).netloc}", "check --base-url and the network"
            if self.remote.proxy is not None:
                what = f"{what} through the proxy {self.remote.proxy.host}"
                remedy = "check its address, user and password"
            raise RemoteApiError(what, found=reason_of(error), remedy=remedy) from error
        return self._connection


def _retry_after_s(headers: Message) -> float | None:
    """Seconds to wait, from the header's seconds or date; None without one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):  # OverflowError: a time zone of twenty digits
        return None
